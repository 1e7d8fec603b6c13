"""Files that were in quarantine, into silver: each ends as if it had come in time.

Silver orders by `_sequence`, and a batch that is older than what is there is merged as such. What a
file writes is marked with the token of its quarantine, so that a replay that was killed is run
again without doubling anything.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.types import DataType, StringType, StructType

from tidemark.errors import ConfigError, PipelineError
from tidemark.layers_lock import as_a_run, as_the_writer
from tidemark.layout import Lake
from tidemark.metadata import Source, Table
from tidemark.published import file_name, names_in_bronze
from tidemark.quarantine import Held, change, decide, held_files
from tidemark.spark.bronze_stream import (
    allow_adfs_names,
    bronze_file,
    file_schema,
    known_schema,
    merged,
    wider,
    with_order,
    write_schema,
)
from tidemark.spark.databricks import RESCUED
from tidemark.spark.explain import explained
from tidemark.spark.rules import column
from tidemark.spark.silver import BatchCounts, TableJob, TableResult
from tidemark.spark.silver_merge import Batch
from tidemark.storage import Store, again, open_store

# How long to wait for a run or a stream that is writing the table.
PATIENCE = 60.0


def run_replay(
    spark: SparkSession,
    lake_root: str,
    source: Source,
    tables: Collection[str],
    rules: Path,
    *,
    files: Collection[str] = (),
    rescue: bool = False,
    beside: str = "",
) -> dict[str, TableResult]:
    """Merge what waits in quarantine, table by table; each fails alone.

    Args:
        spark: The session.
        lake_root: The lake's folder or URL.
        source: The metadata.
        tables: Lake names.
        rules: The folder of the rules files.
        files: Names of bronze files; all that wait if empty.
        rescue: Take a file too whose columns contradict: values that fit are kept, others go into
            ``_rescued_data``.
        beside: A folder of the lake to build in. There those are merged that were rescued before.

    Returns:
        A result for each table; failed, with why, if a file that was asked for still waits.

    Raises:
        ConfigError: A table is none of the source, or a file none of the tables'.
        PipelineError: A rebuild is at work; nothing was run.
    """
    chosen = source.tables_named(tables) if tables else ()
    lake, store = Lake(lake_root, beside), open_store(lake_root)
    allow_adfs_names(spark, store, lake, [table.lake_name for table in chosen])
    results: dict[str, TableResult] = {}
    _require_known(store, lake, chosen, files)
    with as_a_run(lake, source.name):
        for table in chosen:
            path = rules / f"{source.name}.py"
            job = TableJob(spark, store, lake, source.name, table, path)
            results[table.lake_name] = replay_table(job, files, rescue=rescue)
    return results


def _require_known(
    store: Store, lake: Lake, tables: Sequence[Table], files: Collection[str]
) -> None:
    """Refuse a name that is a slip; a file that was merged meanwhile is none."""
    names = [table.lake_name for table in tables]
    known = {file for name in names for file in held_files(store, lake, name)}
    known |= {file_name(p) for name in names for p in names_in_bronze(store, lake, name)}
    if unknown := sorted(set(files) - known):
        message = (
            f"{unknown[0]} is no bronze file of {', '.join(names)}; `tidemark replay --dry-run` "
            "lists what waits"
        )
        raise ConfigError(message)


def rebuilt(
    results: Mapping[str, TableResult], again: Mapping[str, TableResult]
) -> dict[str, TableResult]:
    """Add to what a rebuild did what it rescued again."""
    return {
        name: replace(
            result,
            rows_in=result.rows_in + again[name].rows_in,
            rows=result.rows + again[name].rows,
            rescued=result.rescued + again[name].rescued,
            status=result.status if result.error else again[name].status,
            error=result.error or again[name].error,
        )
        for name, result in results.items()
    }


def replay_table(job: TableJob, files: Collection[str] = (), *, rescue: bool) -> TableResult:
    """Merge what waits of one table, file by file, oldest first."""
    begin, name = time.monotonic(), job.table.lake_name
    counts: list[BatchCounts] = []
    errors: list[str] = []
    try:
        with as_the_writer(job.lake, name, patience=PATIENCE):
            for file, held in held_files(job.store, job.lake, name).items():
                wanted = held.decision == ("rescued" if job.lake.beside else "waiting")
                if wanted and (file in files or not files):
                    counts += _tried(job, file, held, errors, rescue=rescue)
            result = job.result(counts)
    except Exception as error:  # noqa: BLE001  as of a run
        return TableResult(status="failed", error=explained(name, error))
    seconds = round(time.monotonic() - begin, 3)
    return replace(
        result,
        status="failed" if errors else "done",
        error="\n  ".join(errors) or None,
        seconds=seconds,
    )


def replay_file(job: TableJob, file: str, held: Held, *, rescue: bool) -> BatchCounts:
    """Merge one file into silver, and say so in the table's quarantine.

    Raises:
        PipelineError: It still can't be read, or is not in bronze.
    """
    name = job.table.lake_name
    path = _path(job, file)
    found = file_schema(job.spark, job.store, job.lake, name, path)
    # First: the columns that the file brings must not be lost to what is read after it.
    taken = partial(_taken_in, job, path, found, rescue=rescue)
    columns, misfits = again(taken, job.lake.stream_schema(name))
    rows = bronze_file(job.spark, job.lake, name, path, found if misfits else columns)
    rows = with_order(_in_columns(rows, columns, job.table.key) if misfits else rows)
    # No first batch, which would take the file for all that there is.
    batch = Batch(rows.drop("_metadata"), f"replay:{held.token}", 1)
    done = job.merge(batch, job.rule, None)

    def merged_now(now: Mapping[str, Held]) -> Mapping[str, Held]:
        # A file that was read whole is one like the others from now on.
        without = {f: h for f, h in now.items() if f != file}
        return decide(now, [file], "rescued") if misfits else without

    change(job.store, job.lake, name, merged_now)
    return done


def _taken_in(
    job: TableJob, path: str, found: StructType, *, rescue: bool
) -> tuple[StructType, bool]:
    """Add a file's columns to the table's; give them, and whether some of the file's do not fit."""
    name = job.table.lake_name
    known = known_schema(job.store, job.lake, name)
    fitting = _fitting(found, known.columns) if rescue else found
    columns = merged(known.columns, fitting, known.columns, name, path)
    write_schema(job.store, job.lake, name, replace(known, columns=columns))
    return columns, len(fitting) < len(found)


def _tried(
    job: TableJob, file: str, held: Held, errors: list[str], *, rescue: bool
) -> list[BatchCounts]:
    try:
        return [replay_file(job, file, held, rescue=rescue)]
    except Exception as error:  # noqa: BLE001  the other files go on
        errors.append(explained(job.table.lake_name, error))
        return []


def _path(job: TableJob, file: str) -> str:
    name = job.table.lake_name
    for path in names_in_bronze(job.store, job.lake, name):
        if file_name(path) == file:
            return path
    message = (
        f"{name}: bronze/{name} no longer holds {file}; bring it back, or read its rows again and "
        "say --dismiss"
    )
    raise PipelineError(message)


def _fitting(found: StructType, known: StructType) -> StructType:
    """Leave out the columns whose type does not go with what silver was written with."""
    types = {field.name.lower(): field.dataType for field in known}
    fields = (
        f
        for f in found
        if wider(types.get(f.name.lower(), f.dataType), f.dataType)
        == types.get(f.name.lower(), f.dataType)
    )
    return StructType(list(fields))


def _in_columns(rows: DataFrame, columns: StructType, key: Collection[str]) -> DataFrame:
    """Bring rows into silver's columns; a value that does not come back the same is rescued.

    The form is that of Databricks' rescued data column: JSON of the columns that did not fit, and
    the file's path.
    """
    have = {f.name.lower(): f for f in rows.schema}
    keys = {name.lower() for name in key}
    chosen: list[Column] = []
    strange: list[Column] = []
    for field in columns:
        mine = have.get(field.name.lower())
        if mine is None:
            chosen.append(sf.lit(None).cast(field.dataType).alias(field.name))
            continue
        value = column(mine.name)
        if wider(mine.dataType, field.dataType) == field.dataType:
            chosen.append(value.cast(field.dataType).alias(field.name))
            continue
        kept, misfit = _kept(rows.sparkSession, value, mine.dataType, field.dataType)
        if field.name.lower() in keys:
            kept = sf.when(misfit, sf.raise_error(_no_key(field.name))).otherwise(kept)
        chosen.append(kept.cast(field.dataType).alias(field.name))
        strange.append(sf.when(misfit, value).alias(mine.name))
    rescued = sf.struct(*strange, sf.col("_metadata.file_path").alias("_file_path"))
    is_there = sf.lit(False)
    for value in strange:
        is_there |= value.isNotNull()
    text = sf.when(is_there, sf.to_json(rescued)).cast(StringType()).alias(RESCUED)
    return rows.select(*chosen, text, "_metadata")


def _kept(
    spark: SparkSession, value: Column, mine: DataType, wanted: DataType
) -> tuple[Column, Column]:
    """Give a value in another type, and whether it is there and does not fit."""
    nothing = sf.lit(None).cast(wanted)
    try:
        # Asked beforehand: some pairs of types have no cast at all.
        spark.range(0).select(sf.lit(None).cast(mine).try_cast(wanted).try_cast(mine)).schema  # noqa: B018
    except AnalysisException:
        return nothing, value.isNotNull()
    there = value.try_cast(wanted)
    same = there.try_cast(mine).eqNullSafe(value)
    return sf.when(same, there).otherwise(nothing), ~same


def _no_key(name: str) -> Column:
    return sf.lit(f"column {name} is of the key, and holds what does not fit: it can't be rescued")
