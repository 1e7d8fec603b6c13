"""The source files of a pipeline, as its specification declares them under ``libraries``.

https://docs.databricks.com/api/pipelines/v2/get: of a library's kinds, ``file.path`` is one file,
and ``glob.include`` a file or, with ``/**`` at its end, a folder with all that is below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BELOW = "/**"


def declared_files(libraries: Sequence[Mapping[str, Any]]) -> list[Path]:
    """List the files that an update evaluates, sorted: their order is promised to nobody.

    Raises:
        FileNotFoundError: One is not there, or a folder is not, or is empty.
        ValueError: A kind of library that this workspace does not run.
    """
    found = [path for library in libraries for path in _files(library)]
    return sorted(set(found))


def _files(library: Mapping[str, Any]) -> list[Path]:
    ((kind, body),) = library.items()
    known = {"file": "path", "glob": "include"}
    if kind not in known or set(body) != {known[kind]}:
        raise ValueError(f"libraries: {dict(library)}: only a file or a glob is run here")
    pattern = str(body[known[kind]])
    if kind == "glob" and pattern.endswith(_BELOW):
        return _below(Path(pattern.removesuffix(_BELOW)), pattern)
    if "*" in pattern:
        raise ValueError(f"libraries: {pattern}: only a folder that ends in {_BELOW} is a pattern")
    if not Path(pattern).is_file():
        raise FileNotFoundError(f"libraries: {pattern}: no such file in the workspace")
    return [Path(pattern)]


def _below(folder: Path, pattern: str) -> list[Path]:
    files = [path for path in folder.rglob("*.py") if path.is_file()]
    if not files:
        raise FileNotFoundError(f"libraries: {pattern}: no source file in the workspace")
    return files
