"""An error in one line for a report: ours as it is, Spark's without its plans and stacks."""

from __future__ import annotations

from tidemark.errors import TidemarkError


def explained(name: str, error: Exception) -> str:
    """Say what went wrong with a table or view."""
    if isinstance(error, TidemarkError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{name}: {type(error).__name__}: {lines[0] if lines else 'no message'}"
