"""Cleaning rules: how they are found, applied and kept from harming a row's identity.

A rule is a public function in ``spark_jobs/rules/<source>.py`` that takes a table's rows and gives
them back cleaned. It changes values, adds columns or drops them; which rows there are, their keys
and the columns that begin with ``_`` are not its to change: a rule that tries is stopped by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from tidemark.errors import PipelineError

Rule = Callable[[DataFrame], DataFrame]

_RAW = "_raw"


@dataclass(frozen=True)
class TableRule:
    """A rule and the table that it cleans.

    Attributes:
        table: The table's name in the lake, for messages.
        name: The function's name.
        apply: The function.
    """

    table: str
    name: str
    apply: Rule


def find_rule(path: Path, name: str, table: str) -> TableRule:
    """Load a rule from its file, by path: the file needs to be in no package.

    Raises:
        PipelineError: The file can't be imported or holds no such function.
    """
    function = getattr(_module(path, table), name, None)
    if not callable(function):
        message = f"{table}: no rule {name!r} in {path}; write `def {name}(rows)` there"
        raise PipelineError(message)
    return TableRule(table, name, function)


def cleaned(rows: DataFrame, rule: TableRule, key: tuple[str, ...], meta: list[str]) -> DataFrame:
    """Apply a rule, and guard what it may not touch.

    That the values of `key` and `meta` are unchanged is checked row by row when the plan runs:
    a hidden copy travels through the rule, so that no second pass over the rows is needed.

    Raises:
        PipelineError: The rule raises, names an unknown column, or drops or retypes a guarded one.
            A changed value is raised by Spark when the rows are read, with the same kind of
            message.
    """
    guarded = [*key, *meta]
    before = rows.withColumn(_RAW, sf.struct(*map(column, guarded)))
    after = _applied(before, rule)
    for name in [*guarded, _RAW]:
        _check_kept(before, after, name, rule)
    compared = {name: _unchanged(name, key, rule) for name in guarded}
    return after.withColumns(compared).drop(_RAW)


def drop_columns(rows: DataFrame, *names: str) -> DataFrame:
    """Leave columns out of silver and gold; bronze keeps them.

    Raises:
        ValueError: There is no such column (Spark's own ``drop`` would pass over it silently).
    """
    for name in names:
        if name not in rows.columns:
            raise ValueError(_no_column(name, rows))
    return rows.drop(*names)


def trimmed(rows: DataFrame, *names: str) -> DataFrame:
    """Cut whitespace of every kind (tabs, no-break spaces) off both ends of text columns."""
    return rows.withColumns({name: trim(sf.col(name)) for name in names})


def trim(text: Column) -> Column:
    """Cut whitespace of every kind off both ends of one text; NULL stays NULL."""
    return sf.regexp_replace(text, r"(?U)^\s+|\s+$", "")


def column(name: str) -> Column:
    """Refer to a column by its plain name, whatever characters it holds."""
    return sf.col(quoted(name))


def quoted(name: str) -> str:
    """Write a column's name as SQL wants it."""
    return "`" + name.replace("`", "``") + "`"


def _module(path: Path, table: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tidemark_rules_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{table}: {path} is no Python file")
    # Not put into sys.modules: functions of a module that no worker can import are then sent
    # to the workers by value, and UDFs in a rules file work.
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        message = f"{table}: rules {path} can't be loaded: {type(error).__name__}: {error}"
        raise PipelineError(message) from error
    return module


def _applied(rows: DataFrame, rule: TableRule) -> DataFrame:
    try:
        after: object = rule.apply(rows)
    except Exception as error:
        reason = _first_line(error)
        raise PipelineError(f"{rule.table}: rule {rule.name} failed: {reason}") from error
    if not isinstance(after, DataFrame):
        message = f"{rule.table}: rule {rule.name} returned {after!r}; return the rows"
        raise PipelineError(message)
    return after


def _check_kept(before: DataFrame, after: DataFrame, name: str, rule: TableRule) -> None:
    if name not in after.columns:
        message = (
            f"{rule.table}: rule {rule.name} dropped column {name}; "
            "keep the key columns and every column that begins with _"
        )
        raise PipelineError(message)
    old, new = before.schema[name].dataType, after.schema[name].dataType
    if old != new:
        message = (
            f"{rule.table}: rule {rule.name} changed the type of column {name} from "
            f"{old.simpleString()} to {new.simpleString()}; leave it, or add a column of "
            "another name"
        )
        raise PipelineError(message)


def _unchanged(name: str, key: tuple[str, ...], rule: TableRule) -> Column:
    def keys_of(prefix: str) -> Column:
        parts = (sf.col(f"{prefix}{quoted(k)}").alias(k) for k in key)
        return sf.to_json(sf.struct(*parts), {"ignoreNullFields": "false"})

    complaint = sf.concat(
        sf.lit(f"{rule.table}: rule {rule.name} changed column {name} of the row "),
        keys_of(f"{_RAW}."),
        sf.lit(" (its key is now "),
        keys_of(""),
        sf.lit("); a rule may not change a key or a column that begins with _"),
    )
    value = column(name)
    same = value.eqNullSafe(sf.col(f"{_RAW}.{quoted(name)}"))
    return sf.when(same, value).otherwise(sf.raise_error(complaint))


def _first_line(error: Exception) -> str:
    text = error.getMessage() if isinstance(error, PySparkException) else None
    return f"{type(error).__name__}: {(text or str(error)).splitlines()[0]}"


def _no_column(name: str, rows: DataFrame) -> str:
    near = get_close_matches(name, rows.columns, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(rows.columns)}"
    return f"no column {name!r} to drop; {hint}"
