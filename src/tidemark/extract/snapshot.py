"""Strategy ``snapshot``: the whole table, compared by digest with what was read before.

It sees everything, deletes included, on any database, at the price of reading the whole table.
"""

from __future__ import annotations

import sqlalchemy as sa

from tidemark.extract.frontier import fix_and_reach
from tidemark.extract.strategy import Ask, ReadPlan, columns_of, from_table


def plan(ask: Ask) -> ReadPlan:
    """Plan the read of every row; with a cursor, how far it reached is noted for `cdc.json`."""
    high = fix_and_reach(ask)
    statement = sa.select(*columns_of(ask.described)).select_from(from_table(ask.table))
    return ReadPlan(statement, "the whole table", high, whole=True, compared=True)
