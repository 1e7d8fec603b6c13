"""``tidemark reconcile``: source against lake on the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from tidemark.connection import mask_key, source_url
from tidemark.errors import ConfigError, TidemarkError
from tidemark.landing import TableJob
from tidemark.metadata import Table, load_source, source_file
from tidemark.reconcile.compare import reconcile_table
from tidemark.reconcile.keeping import keep_page, keep_table, new_run_id
from tidemark.reconcile.model import Options, TableResult, exit_code
from tidemark.reconcile.text import render_text
from tidemark.settings import Settings
from tidemark.storage import open_store


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Compare, mend if asked, show and keep the result.

    Returns:
        0: equal, or all repaired; 1: a table could not be compared; 2: differences remain.

    Raises:
        TidemarkError: The metadata is wrong, or there is no connection.
    """
    source = load_source(source_file(settings.config, arguments.source), settings.rules_folder)
    tables = source.tables_named(arguments.table)
    if arguments.dry_run and not arguments.repair:
        message = "--dry-run says what --repair would write: give --repair too"
        raise ConfigError(message)
    options = Options(arguments.deep, arguments.repair, arguments.dry_run)
    url, store, lake = source_url(source, settings), open_store(settings.lake.root), settings.lake
    key, run_id = mask_key(source, settings), new_run_id(datetime.now(UTC))
    results = []
    for table in tables:
        if sys.stderr.isatty():
            sys.stderr.write(f"{table.lake_name} …\n")
        result = _one(TableJob(store, lake, table, run_id, url, key), table, options)
        keep_table(store, lake, source.name, run_id, result)
        results.append(result)
    page = keep_page(store, lake, source.name, run_id, options, results)
    if arguments.json:
        value = {"source": source.name, "run_id": run_id, "tables": [asdict(r) for r in results]}
        sys.stdout.write(f"{json.dumps(value, indent=1, ensure_ascii=False)}\n")
    else:
        sys.stdout.write(f"{render_text(results)}\nreport: {lake.url(page)}\n")
    return exit_code(results)


def _one(job: TableJob, table: Table, options: Options) -> TableResult:
    # One table's failure is never another's.
    try:
        return reconcile_table(job, options)
    except TidemarkError as error:
        return TableResult(table.lake_name, error=str(error))
