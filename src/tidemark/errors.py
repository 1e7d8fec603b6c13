"""The errors, grouped by what their catcher does with them.

A message names the table, the fact, the value and the remedy, in that order, so that whoever reads
only the mail knows what to do next. Everything but the three transient classes is final: the same
call would fail again.
"""

from __future__ import annotations


class TidemarkError(Exception):
    """Base of every error that Tidemark raises on purpose."""


class ConfigError(TidemarkError):
    """The metadata is wrong: mended by editing a file in ``config/``."""


class SourceError(TidemarkError):
    """The source refuses for good: a missing table or column, a login without the right."""


class SourceUnavailable(TidemarkError):
    """The source does not answer now. Transient: the same read may succeed later."""


class StateError(TidemarkError):
    """What is stored about a table (``cdc.json``, a marker) can't be read or contradicts itself."""


class LakeError(TidemarkError):
    """The lake refuses: a full disk, a missing folder, a file that can't be written or read."""


class LakeUnavailable(LakeError):
    """The lake does not answer now, after many tries. Transient: a later try may succeed."""


class ReadOvertaken(TidemarkError):
    """A later read of the table has begun. Transient: the retry is a new read."""


class PipelineError(TidemarkError):
    """Silver or gold failed for at least one table; the others are done."""


def shown(text: str, most: int = 200) -> str:
    """Write a value as a message shows it: cut where it is long, be it a whole document."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… ({len(text):,} characters)"


def is_transient(error: BaseException) -> bool:
    """Tell whether a retry of the same step can succeed without anybody mending anything."""
    return isinstance(error, SourceUnavailable | LakeUnavailable | ReadOvertaken)
