"""A type by the name under which the database declares it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


class Declared(sa.types.UserDefinedType[Any]):
    """A type to cast to, in the database's own words: ``datetime2(7)``, ``uuid``."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self.declared = declared

    def get_col_spec(self, **_: Any) -> str:
        """Give the name, as CAST takes it."""
        return self.declared
