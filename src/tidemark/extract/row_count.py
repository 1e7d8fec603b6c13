"""How many rows a query has, as a number that also a very large table's rows fit into."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class row_count(FunctionElement[int]):  # noqa: N801  stands in a query like SQLAlchemy's own
    """Count rows. A class, because that is what SQLAlchemy compiles by the kind of database."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(row_count)
def _count(element: row_count, compiler: SQLCompiler, **_: object) -> str:
    del element, compiler
    return "count(*)"


@compiles(row_count, "mssql")
def _count_big(element: row_count, compiler: SQLCompiler, **_: object) -> str:
    # COUNT is an int there and fails from 2,147,483,648 rows on (error 8115).
    del element, compiler
    return "COUNT_BIG(*)"
