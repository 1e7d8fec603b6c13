"""An exception as text that can be mailed and kept: short, and without secrets."""

from __future__ import annotations

import re

from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import redact  # type: ignore[attr-defined]

_LINES = 8
_COLUMNS = 600

# Airflow's masker knows the secrets that were read as they are; a driver may repeat them
# URL-quoted or in parts, so credentials are also known by their form. In doubt a word too much is
# masked: a reader can look up what is missing, but nobody can take back what was mailed.

# From "//" to the last "@". A password with blanks goes on to a later "@" if no punctuation shows
# that prose has begun; digits up to such a mark are a port, and no password.
_IN_URL = re.compile(
    r"(?<=://)[^\s/@]*:(?:\S*@(?:[^\r\n'\"/;,:]*@)?|(?!\s|\d+(?:[/?#,;\s]|$))[^\r\n'\"/;,:]*@)"
)
_IN_HEADER = re.compile(r"(\bauthorization\\?['\"]?\s*[=:]\s*\\?['\"]?)[^'\"\r\n]+", re.IGNORECASE)
_BEARER = re.compile(r"(\bbearer\s+)[^\s'\",;]{20,}", re.IGNORECASE)
# In braces "}}" is an escaped brace, as a doubled quote is in quotes.
_QUOTED = r"""\{(?:[^}]|\}\})*\}|'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*\""""
# In a connection string an unquoted password goes up to the ";", blanks and all, or up to the
# string's end.
_UNQUOTED = r"(?:(?!['\")](?:\s|$))[^;\r\n])+"
_KEYWORD = r"(?:pwd|passwd|password|passphrase)"
_IN_CONNECTION = re.compile(
    rf"(\b\w*{_KEYWORD}\s*=\s*)(?:{_QUOTED}|{_UNQUOTED}(?=;))", re.IGNORECASE
)
_LAST_IN_CONNECTION = re.compile(
    rf"(;\s*\w*{_KEYWORD}\s*=\s*)(?:{_QUOTED}|{_UNQUOTED})", re.IGNORECASE
)
# The name's last word tells: `db_password` and `accessToken`, but not `token_count`.
_IN_PAIR = re.compile(
    rf"(\b\w*(?:{_KEYWORD}|secret|token|(?:access|account|api|private|secret)[ _-]?key"
    r"|access[ _-]?signature|\b(?:\w*_)?sig)\\?['\"]?\s*[=:]\s*)"
    rf"(?:{_QUOTED}|[^\s;&,)]+)",
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
    for form in (_IN_HEADER, _BEARER, _IN_CONNECTION, _LAST_IN_CONNECTION, _IN_PAIR):
        masked = form.sub(r"\1***", masked)
    return masked
