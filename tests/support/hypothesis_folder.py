"""A folder for one example of a property test."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def folder(parent: str | None) -> Iterator[Path]:
    """Make a folder, and remove it again."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)
