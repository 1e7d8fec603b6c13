"""``docs/config.md``, rendered from the models so that it can't drift from them.

``python -m tidemark.config_docs > docs/config.md`` writes the page anew.
"""

from __future__ import annotations

import datetime as dt
import sys
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidemark.metadata.columns import Columns
from tidemark.metadata.durations import format_duration
from tidemark.metadata.maintenance import Maintenance
from tidemark.metadata.problems import field_names, literals_in, model_of
from tidemark.metadata.schedules import PRESETS
from tidemark.metadata.source import (
    Alerts,
    Databricks,
    Endpoint,
    Reconcile,
    Source,
    TaskPolicy,
)
from tidemark.metadata.table import Defaults, Gold, Table
from tidemark.metadata.views import View, ViewTable

_INTRODUCTION = f"""\
# The metadata: `config/<source>.yaml`

<!-- Generated: python -m tidemark.config_docs > docs/config.md -->

One file is one source and one Dag; the Dag's id is the file's stem. To add a table, add a line
under `tables`; `tidemark validate` checks all files.

```yaml
# config/shop.yaml
source: {{connection: shop_sql, schema: dbo}}    # an Airflow connection; no password in this file
schedule: "30 6 * * *"                         # every day at 06:30 UTC
alerts: {{to: [data@example.com]}}               # on failure and on recovery
defaults: {{cursor: updated_at}}                 # what a table gets that leaves it out
tables:
  Customer:                                    # the least: a key, and the cursor from defaults
    key: customer_id
  Product: {{key: product_id, gold: {{scd: 1}}}}   # the same on one line; gold has the current rows
  OrderLine:
    schema: sales
    lake_name: SalesOrderLine                  # its folders in bronze and silver
    key: [order_id, line_no]                   # a key of two columns
    cursor: changed_at
    lookback: 2d                               # rows may be committed up to two days late
    gold:
      scd: 2                                   # every version, in gold/sales_order_line
      track: [quantity, price]                 # only these columns make a version
      expect_or_drop: {{sold: quantity > 0}}     # other rows are dropped, and counted
```

- A **duration** is a number and a unit: `90s`, `5m`, `1h`, `2d`.
- A **schedule** is one of {", ".join(f"`{p}`" for p in PRESETS)}, or
  five cron fields: minute, hour, day of month, month, day of week.
- Types are strict: `"5"` is no number. Text that YAML would read as something else (`no`, `on`,
  `2025`, `2025-01-01`) needs quotes, also as a key.
- An unknown field, a wrong type, a key that is given twice: each is an error that names file,
  table, field, value and the nearest valid name. All errors of a file are reported together, and
  the other files are not affected.
- All files of the folder share one lake. No two tables may have the same `lake_name` or the same
  `gold.name`, whatever the case of the letters, nor a `lake_name` that is another's with `_cdc` or
  `_changes` behind it.
"""

_RULES = """\
## Cleaning rules

`spark_jobs/rules/<source>.py` holds one function a table. A table is cleaned by the function whose
name is its `lake_name` in snake_case (`DimUser`: `dim_user`), or by the one that `rule` names;
without one it passes through. A `rule` that does not exist is an error.
"""

_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The file", Source, ""),
    ("`source`", Endpoint, ""),
    ("`alerts`", Alerts, ""),
    ("`tasks`", TaskPolicy, ""),
    (
        "`databricks`",
        Databricks,
        "With `compute: databricks`: see [runs on Databricks](databricks-runs.md).",
    ),
    (
        "`reconcile`",
        Reconcile,
        (
            "Each source has a second Dag, `<source>_reconcile`, which compares it with its lake "
            "([reconcile.md](reconcile.md))."
        ),
    ),
    (
        "`defaults`",
        Defaults,
        (
            "A table that leaves one of these out gets the value given here; what neither gives "
            "has the default of the table's field."
        ),
    ),
    ("`tables.<Table>`", Table, "The key is the table's name in the source."),
    (
        "`tables.<Table>.gold`",
        Gold,
        "[gold.md](gold.md) says what becomes of a row that fails an expectation.",
    ),
    (
        "`tables.<Table>.maintenance`",
        Maintenance,
        (
            "Used by `tidemark maintain` and the maintenance job on Databricks, at no run's time "
            "([operations.md](operations.md#keep-the-tables-tidy))."
        ),
    ),
    (
        "`tables.<Table>.columns`",
        Columns,
        (
            "A change counts from the next read on. What the lake holds already stays there. To be "
            "rid of it, pause the Dag and remove all that the lake has of the table: from `bronze` "
            "its folder and that of its `cdc.json`, from `silver` both tables, from `gold` its "
            "table, and from `_tidemark` what is named like the table or its gold: in "
            "`checkpoints`, `markers`, `autocdc` (which holds every event) and `replaced`. The "
            "next run reads it whole. `hmac` makes a text of any column, which a table that is in "
            "silver already does not take where it was none: do the same."
        ),
    ),
    ("`views.<name>`", View, "[gold.md](gold.md#views-from-the-metadata) shows one."),
    ("`views.<name>.tables[]`", ViewTable, ""),
)
_TYPES: dict[object, str] = {
    str: "text",
    int: "whole number",
    bool: "`true` or `false`",
    dt.date: "date",
    dt.timedelta: "duration",
}


def render() -> str:
    """Return the page as Markdown."""
    sections = (_section(*section) for section in _SECTIONS)
    return "\n".join([_INTRODUCTION, *sections, _RULES])


def _section(title: str, model: type[BaseModel], text: str) -> str:
    lines = [f"## {title}", "", *([text, ""] if text else [])]
    lines += ["| field | type | default | what it means | example |", "|---|---|---|---|---|"]
    # What a default means is said once, at the table's field.
    described = Table if model is Defaults else model
    for name, attribute in field_names(model).items():
        info, origin = model.model_fields[attribute], described.model_fields[attribute]
        default = "—" if model is Defaults else _default(info)
        examples = ", ".join(f"`{name}: {example}`" for example in origin.examples or ())
        cells = (f"`{name}`", _type(origin), default, str(origin.description), examples)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _extra(info: FieldInfo, name: str) -> str | None:
    extra = info.json_schema_extra
    value = extra.get(name) if isinstance(extra, dict) else None
    return str(value) if value is not None else None


def _default(info: FieldInfo) -> str:
    stated = _extra(info, "default")
    if stated is not None:
        return stated
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "each field's own"
    return f"`{_yaml(value)}`" if value or value in (False, dt.timedelta(0)) else "none"


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return format_duration(value) if isinstance(value, dt.timedelta) else str(value)


def _type(info: FieldInfo) -> str:
    return _extra(info, "type") or _type_name(info.annotation)


def _type_name(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    arguments = [a for a in typing.get_args(annotation) if a not in (type(None), ...)]
    if typing.get_origin(annotation) is tuple:
        return f"list of {_type_name(arguments[0])}"
    if model_of(annotation):
        return "mapping (below)"
    if typing.get_origin(annotation) is dict:
        return "mapping of text to text"
    if literals := literals_in(annotation):
        return " or ".join(f"`{value}`" for value in literals)
    return _TYPES[annotation] if annotation in _TYPES else _type_name(arguments[0])


if __name__ == "__main__":
    sys.stdout.write(render())
