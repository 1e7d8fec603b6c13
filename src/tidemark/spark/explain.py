"""An error in one line for a report: ours as it is, Spark's without its plans and stacks."""

from __future__ import annotations

import re

from tidemark.errors import TidemarkError

_RAISED = re.compile(r"\[USER_RAISED_EXCEPTION\] (.*?) SQLSTATE", re.DOTALL)


def explained(name: str, error: Exception) -> str:
    """Say what went wrong with a table or view."""
    if isinstance(error, TidemarkError):
        return str(error)
    # An error of the JVM that pyspark has no class for keeps its words there.
    text = str(getattr(error, "java_exception", None) or error).strip()
    raised = _RAISED.search(text)  # by a rule's guard, somewhere below Spark's own words
    if raised:
        return raised.group(1)
    return f"{name}: {type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
