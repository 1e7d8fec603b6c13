"""An exception as text that can be mailed and kept: short, and without secrets."""

from __future__ import annotations

import re

from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import redact  # type: ignore[attr-defined]

_LINES = 8
_COLUMNS = 600

# Airflow's masker knows the secrets that were read as they are; a driver may repeat them
# URL-quoted or in parts, so credentials are also known by their form.
_IN_URL = re.compile(r"(?<=://)[^\s/@]*:\S*@")
_IN_PAIR = re.compile(
    r"\b(pwd|password|passwd|secret|client_?secret|account_?key|shared_?access_?key|sig|token)"
    r"(['\"]?\s*[=:]\s*)(\{[^}]*\}|'[^']*'|\"[^\"]*\"|[^\s;&,)]+)",
    re.IGNORECASE,
)


def describe(error: BaseException) -> str:
    """Give an exception's class and the first lines of its message, without secrets.

    `AirflowFailException`, which only says "do not retry", gives way to its cause.
    """
    cause = error.__cause__ if isinstance(error, AirflowFailException) else None
    shown = cause or error
    # Redacted before it is cut: half a secret would not be known as one.
    text = redacted(f"{type(shown).__name__}: {shown}".strip())
    lines = [line.rstrip()[:_COLUMNS] for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:_LINES] + (["…"] if len(lines) > _LINES else []))


def redacted(text: str) -> str:
    """Replace every secret that is known, by value or by form, with ``***``."""
    masked = _IN_URL.sub("***@", str(redact(text)))
    return _IN_PAIR.sub(r"\1\2***", masked)
