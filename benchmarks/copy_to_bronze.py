"""From a database to Parquet, by the tasks' own code and by others: `make bench copy`.

One table of ten mixed columns, in a schema that the bench makes and drops: on a PostgreSQL server
of its own, or on any PostgreSQL or SQL Server by `--url` (`make bench copy ARGS="--url …"`). Each
contestant copies in a fresh process, round after round; what counts are the ratios within a round.
Tidemark does more than the others: it fixes the window at the source, checks types, digests each
row and publishes the file whole.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench_table import BenchTable, bench_table

_PEERS = Path(sys.prefix) / "bench"
_PACKAGES = (
    "connectorx>=0.4", "dlt[filesystem,parquet,sql_database]>=1.10", "psycopg[binary]>=3.3",
    "mssql-python>=1.16", "sqlalchemy>=2.0", "pyarrow>=18", "pandas>=2.2",
)  # fmt: skip
_OURS = ("bare", "rows", "tidemark", "sqlalchemy_pandas", "pymssql")
_OTHERS = ("connectorx", "dlt_pyarrow", "dlt_connectorx")
_ONLY = {"rows": "postgresql", "pymssql": "mssql"}
_LARGE = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a database (SQLAlchemy URL); default: a server of our own")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join((*_OURS, *_OTHERS))}")
    parser.add_argument(
        "--large", action="store_true", help=f"also {_LARGE} times the rows, for Tidemark's memory"
    )
    args = parser.parse_args()
    with _database(args.url) as url:
        wanted = args.only.split(",") if args.only else [*_OURS, *_OTHERS]
        names = [name for name in wanted if _can_run(name, url)]
        with bench_table(url, args.rows) as table:
            kind = table.url.partition("+")[0]
            print(
                f"{kind}, {args.rows:,} rows x 10 columns, {os.cpu_count()} cores, Python "
                f"{platform.python_version()}, {args.repeats} rounds",
                flush=True,
            )
            small = _rounds(names, table, args.repeats)
        if args.large and "tidemark" in small:
            with bench_table(url, args.rows * _LARGE) as table:
                large = _copy("tidemark", table)
            _print_large(statistics.median(r["peak"] for r in small["tidemark"]), large)


@contextlib.contextmanager
def _database(url: str | None) -> Iterator[str]:
    if url:
        yield url
        return
    from postgres import server  # noqa: PLC0415  # the tests' own, only where it is needed

    with server() as own:
        yield own


def _can_run(name: str, url: str) -> bool:
    """Tell whether a contestant can take part; if not, say why."""
    if not url.startswith(_ONLY.get(name, "")):
        return False
    reason = _install() if name in _OTHERS else None
    if reason:
        print(f"{name}: skipped: {reason}")
    return reason is None


def _install() -> str | None:
    """Give the other tools an environment of their own, once; return why that failed."""
    if (_PEERS / ".ready").exists():
        return None
    uv = Path(sys.prefix) / "bin" / "uv"
    program = str(uv) if uv.exists() else "uv"
    python = str(_PEERS / "bin" / "python")
    try:
        for words in (
            ["venv", "-q", "--clear", "--python", sys.executable, str(_PEERS)],
            ["pip", "install", "-q", "--python", python, *_PACKAGES],
        ):
            done = subprocess.run(  # noqa: S603 - our own words
                [program, *words], capture_output=True, text=True, check=False
            )
            if done.returncode:
                return " ".join(done.stderr.split())[-300:]
    except OSError as error:
        return str(error)
    (_PEERS / ".ready").touch()
    return None


def _rounds(names: list[str], table: BenchTable, repeats: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in list(found):
            try:
                found[name].append(_copy(name, table))
                print(f"  {name} {found[name][-1]['seconds']:.1f} s", flush=True)
            except RuntimeError as error:
                print(f"{name}: left out: {error}", flush=True)
                del found[name]
    for name, results in found.items():
        _print(name, results, found.get("bare"), table.rows)
    return found


def _copy(name: str, table: BenchTable) -> dict[str, float]:
    python = sys.executable if name in _OURS else str(_PEERS / "bin" / "python")
    script = str(Path(__file__).with_name("contestants.py"))
    environment = dict(os.environ) | {
        "TIDEMARK_BENCH_URL": table.url,
        "RUNTIME__LOG_LEVEL": "ERROR",
    }
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - our own words
            [python, script, name, table.schema, folder],
            env=environment,
            cwd=folder,  # away from this repository's `dlt/`
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:300])
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    if result["rows"] != table.rows:
        message = f"{result['rows']:,} rows written, {table.rows:,} expected"
        raise RuntimeError(message)
    return result


def _print(
    name: str, results: list[dict[str, float]], bare: list[dict[str, float]] | None, rows: int
) -> None:
    seconds = statistics.median(r["seconds"] for r in results)
    peak = statistics.median(r["peak"] for r in results)
    cpu = statistics.median(r["cpu"] for r in results)
    line = f"{name:<18} {rows / seconds:>9,.0f} rows/s  {seconds:6.2f} s"
    line += f"  CPU {cpu:6.2f} s  peak {peak:4.0f} MB"
    if bare:
        line += f"  {_ratio('seconds', results, bare)} x bare, CPU {_ratio('cpu', results, bare)}"
    print(line, flush=True)


def _ratio(what: str, results: list[dict[str, float]], bare: list[dict[str, float]]) -> str:
    """Give the median, and the range, of the ratios within each round."""
    ratios = [r[what] / b[what] for r, b in zip(results, bare, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _print_large(small: float, large: dict[str, float]) -> None:
    print(
        f"tidemark, {large['rows']:,} rows: {large['rows'] / large['seconds']:,.0f} rows/s, peak "
        f"{large['peak']:.0f} MB, {large['peak'] / small:.2f} x that of a {_LARGE}th of the rows"
    )


if __name__ == "__main__":
    main()
