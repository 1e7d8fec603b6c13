"""What ``dlt/`` files declare with, under Databricks' names: the one seam between two engines.

Databricks' ``pyspark.pipelines`` has everything below, and is handed every call. Open-source 4.2
has neither expectations nor SCD type 2: there the same facts go to `tidemark.spark.graph`, as SQL
text, because open source would build Spark Connect expressions of them. That module, and what it
imports, is open source's own: it is imported in one place, where Databricks does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, cast

from pyspark import pipelines
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from tidemark.layout import Lake
from tidemark.metadata import Source, load_source, require_config, source_file
from tidemark.pending import has_only_appends
from tidemark.spark.change_flow import ChangeFlow
from tidemark.spark.databricks import RESCUED
from tidemark.spark.expectations import Kind, quarantined
from tidemark.storage import open_store

if TYPE_CHECKING:
    from tidemark.spark.graph import Graph

# What Spark and Delta call a path that does not exist, or holds no table.
_NOT_THERE = {
    "DELTA_MISSING_DELTA_TABLE",
    "DELTA_PATH_DOES_NOT_EXIST",
    "DELTA_TABLE_NOT_FOUND",
    "PATH_NOT_FOUND",
}
Query = TypeVar("Query", bound=Callable[[], DataFrame])


@dataclass(frozen=True)
class _Found:
    source: Source
    there: frozenset[str]


# What was found in this update, by metadata file; and the views of `materialized_view`. An engine
# may load the next update's files in the same process: `scd.py` asks anew.
_found: dict[str, _Found] = {}
_declared: set[str] = set()


class _Databricks(Protocol):
    """The part of Databricks' ``pyspark.pipelines`` that open source lacks."""

    def create_auto_cdc_flow(self, **facts: object) -> None: ...

    def expect_all(self, expectations: dict[str, str]) -> Callable[[Query], Query]: ...

    def expect_all_or_drop(self, expectations: dict[str, str]) -> Callable[[Query], Query]: ...

    def expect_all_or_fail(self, expectations: dict[str, str]) -> Callable[[Query], Query]: ...


def create_auto_cdc_flow(
    *,
    target: str,
    source: str,
    keys: Sequence[str],
    sequence_by: str,
    apply_as_deletes: str | None = None,
    except_column_list: Sequence[str] = (),
    stored_as_scd_type: Literal[1, 2] = 1,
    track_history_column_list: Sequence[str] = (),
) -> None:
    """Declare a flow of change events into a streaming table.

    Args:
        target: The streaming table.
        source: The view or table that the events are streamed from.
        keys: The columns that identify a row.
        sequence_by: SQL expression that orders a key's events; never NULL.
        apply_as_deletes: SQL condition under which an event is a delete.
        except_column_list: Columns of the source that the target does not get.
        stored_as_scd_type: 1 keeps the current rows, 2 a row for each version.
        track_history_column_list: SCD type 2: the columns whose change makes a version; all if
            empty.
    """
    databricks = _databricks()
    if databricks is None:
        flow = ChangeFlow(
            target=target,
            source=source,
            keys=tuple(keys),
            sequence_by=sequence_by,
            apply_as_deletes=apply_as_deletes,
            except_columns=tuple(except_column_list),
            scd_type=stored_as_scd_type,
            track=tuple(track_history_column_list),
        )
        return _graph().register_change_flow(flow)
    optional: dict[str, object] = {
        "apply_as_deletes": sf.expr(apply_as_deletes) if apply_as_deletes else None,
        "except_column_list": list(except_column_list) or None,
        "track_history_column_list": list(track_history_column_list) or None,
    }
    databricks.create_auto_cdc_flow(
        target=target,
        source=source,
        keys=list(keys),
        sequence_by=sf.expr(sequence_by),
        stored_as_scd_type=stored_as_scd_type,
        **{name: value for name, value in optional.items() if value is not None},
    )
    return None


def expect(description: str, constraint: str) -> Callable[[Query], Query]:
    """Count the rows of a query for which a predicate is not true, and keep them.

    It stands under ``@dp.…``, like all that follow.

    Args:
        description: The expectation's name, the only one of the query that is called so.
        constraint: SQL predicate. NULL is not true.
    """
    return expect_all({description: constraint})


def expect_or_drop(description: str, constraint: str) -> Callable[[Query], Query]:
    """Leave out, and count, the rows of a query for which a predicate is not true."""
    return expect_all_or_drop({description: constraint})


def expect_or_fail(description: str, constraint: str) -> Callable[[Query], Query]:
    """Apply nothing of a batch that holds a row for which a predicate is not true."""
    return expect_all_or_fail({description: constraint})


def expect_all(expectations: Mapping[str, str]) -> Callable[[Query], Query]:
    """Stand for an `expect` each.

    Args:
        expectations: A name and a SQL predicate each. NULL is not true.
    """
    return _expect("warn", expectations)


def expect_all_or_drop(expectations: Mapping[str, str]) -> Callable[[Query], Query]:
    """Stand for an `expect_or_drop` each."""
    return _expect("drop", expectations)


def expect_all_or_fail(expectations: Mapping[str, str]) -> Callable[[Query], Query]:
    """Stand for an `expect_or_fail` each."""
    return _expect("fail", expectations)


def keep_dropped(
    *, target: str, source: str, expectations: Mapping[str, str], query: Callable[[], DataFrame]
) -> None:
    """Keep in a streaming table what expectations drop from a view that an AUTO CDC flow reads.

    On Databricks a flow of its own reads the view's source once more, and takes the rows that the
    view leaves out. Elsewhere the AUTO CDC flow puts them there while it has them at hand.

    Args:
        target: The streaming table. It gets the rows as they came, and the names of the
            expectations that each fails in ``__FAILED_EXPECTATIONS``.
        source: The view.
        expectations: What the view's ``expect_all_or_drop`` has.
        query: Streams what the view streams, without its expectations.
    """
    if _databricks() is None:
        return _graph().register_quarantine(source, target)

    @pipelines.append_flow(target=target, name=f"{target}_flow")
    def dropped() -> DataFrame:
        return quarantined(query(), expectations)

    return None


def pipeline_source() -> Source:
    """Return the metadata that the pipeline runs for: ``tidemark.source`` in ``tidemark.config``.

    Raises:
        ConfigError: The metadata is wrong, or not what ``tidemark.config_digest`` says.
    """
    conf = SparkSession.active().conf
    path = Path(_metadata_file())
    require_config(path.parent, str(conf.get("tidemark.config_digest", "")))
    return load_source(path)


def _metadata_file() -> str:
    conf = SparkSession.active().conf
    folder, name = str(conf.get("tidemark.config")), str(conf.get("tidemark.source"))
    return str(source_file(Path(folder), name))


def tables_there(source: Source, *, ask: bool = True) -> frozenset[str]:
    """Name the gold tables, quarantines and views of the metadata that this update can have.

    Databricks fails an update as a whole that reads from nowhere, and so would the one table hold
    up the others: there a table needs a change in silver, and a view all of its tables. The runner
    of open source is told which tables there are, and skips a view that lacks one: there it is all.

    Args:
        source: The metadata.
        ask: False: take what was found before in this update. Silver may have got a table since,
            of which a view would be declared, and not the table.
    """
    key = str(source.path)
    if ask or key not in _found:
        tables = [t for t in source.tables.values() if t.gold and _has_changes(t.lake_name)]
        there = {gold.name for t in tables if (gold := t.gold)}
        there |= {
            f"{gold.name}_quarantine" for t in tables if (gold := t.gold) and gold.expect_or_drop
        }
        for name, view in source.views.items():  # a view stands below those that it is made of
            if all(each.table in there for each in view.tables):
                there.add(name)
        _found[key] = _Found(source, frozenset(there))
        _declared.clear()  # in an earlier update of the same process
    return _found[key].there


def materialized_view(
    *, reads: Sequence[str], name: str | None = None, comment: str | None = None
) -> Callable[[Query], Query]:
    """Declare a view, kept as a table, once all that it reads is there; it stands for ``@dp.…``.

    Databricks fails an update as a whole if one of its views reads a table that is not there. So
    the view is left out of the update, which says so, until its tables have got their first row.

    Args:
        reads: Every gold table and view that the function reads, none of which is declared below
            it. Elsewhere than on Databricks a view that reads another one fails.
        name: Of the view; default: the function's.
        comment: What it is.
    """

    def declare(query: Query) -> Query:
        own = name or query.__name__
        if _databricks() is None:
            _graph().register_reads(own, reads)
        elif missing := _missing(own, reads):
            print(_left_out(own, missing))  # noqa: T201  an update's files speak in its log
            return query
        pipelines.materialized_view(name=own, comment=comment)(query)
        return query

    return declare


def _left_out(view: str, missing: Sequence[str]) -> str:
    """Say that an update goes without a view, and when it comes."""
    return (
        f"{view}: left out of this update: {', '.join(missing)} holds nothing yet; the view comes "
        "by itself with the first row"
    )


def _missing(view: str, reads: Sequence[str]) -> list[str]:
    """Name what a view lacks; a name with a schema in it is not ours to judge."""
    known = _found.get(_metadata_file())
    source = known.source if known else pipeline_source()
    there = tables_there(source, ask=False) | _declared
    missing = [name for name in reads if "." not in name and name not in there]
    (_declared.discard if missing else _declared.add)(view)
    return missing


def _has_changes(table: str) -> bool:
    """Tell whether silver has anything of a table yet, by its name in the lake."""
    if _databricks() is None:
        return True
    spark = SparkSession.active()
    lake = _lake(spark)
    try:
        spark.read.format("delta").load(lake.url(lake.changes(table))).schema  # noqa: B018  it looks
    except AnalysisException as error:
        if error.getCondition() in _NOT_THERE:
            return False
        raise
    return True


def read_changes(table: str) -> DataFrame:
    """Stream every distinct change of a table, by its name in the lake (``tidemark.lake``)."""
    spark = SparkSession.active()
    lake = _lake(spark)
    reader = spark.readStream.format("delta")
    if _databricks() is None and has_only_appends(open_store(lake.root), lake, table):
        # The commits one by one give the same rows as the snapshot that a stream begins with, for
        # a table that is only appended to, and spare the first two runs seconds each.
        reader = reader.option("startingVersion", 0)
    # Nothing of the business: it is there only where a value did not fit once.
    return reader.load(lake.url(lake.changes(table))).drop(RESCUED)


def _lake(spark: SparkSession) -> Lake:
    conf = spark.conf
    return Lake(str(conf.get("tidemark.lake")), str(conf.get("tidemark.beside", "")))


def _expect(kind: Kind, expectations: Mapping[str, str]) -> Callable[[Query], Query]:
    if not expectations:
        return lambda query: query
    databricks = _databricks()
    if databricks is not None:
        declare = {
            "warn": databricks.expect_all,
            "drop": databricks.expect_all_or_drop,
            "fail": databricks.expect_all_or_fail,
        }[kind]
        # What becomes of NULL is not documented there; so it never comes to it.
        return declare({n: f"coalesce(({rule}), false)" for n, rule in expectations.items()})

    def register(query: Query) -> Query:
        _graph().register_expectations(query, kind, expectations)
        return query

    return register


def _databricks() -> _Databricks | None:
    full = hasattr(pipelines, "expect_all_or_drop")
    return cast("_Databricks", pipelines) if full else None


def _graph() -> Graph:
    from tidemark.spark.graph import active_graph  # noqa: PLC0415  Databricks lacks what it imports

    return active_graph()
