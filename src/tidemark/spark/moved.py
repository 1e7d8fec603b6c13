"""A lake that was moved: Spark's checkpoint names the files of bronze by their whole URLs.

What it has read would all be read again, and a batch that had been planned, and not done, names
files that are gone. In a local folder the checkpoint is told where they lie now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import quote

from tidemark.errors import PipelineError
from tidemark.layout import Lake
from tidemark.storage import LocalStore, Store

_WRONG = "Wrong basePath"  # Spark's words, followed by both places
# What Java escapes in a URL's path (java.net.URI), beside blanks and controls of any kind; Spark
# compares URLs as text.
_ESCAPED = frozenset(' "<>\\^`{|}%#?[]')


@contextmanager
def where_it_lies(store: Store, lake: Lake, table: str) -> Iterator[None]:
    """Run silver's stream of a table on a lake that may have been moved, or copied, since.

    Raises:
        PipelineError: It was, and lies in no local folder; the message names both places.
    """
    if isinstance(store, LocalStore):
        _follow(store, lake, table)
    try:
        yield
    except Exception as error:
        text = str(getattr(error, "java_exception", None) or error)
        if _WRONG not in text:
            raise
        said = text[text.index(_WRONG) :].splitlines()[0]
        message = (
            f"{table}: the lake was moved while files of bronze were being read into silver, and "
            f"{lake.url(lake.checkpoint('silver', table))} names them where they were ({said}); "
            "bring the lake back to where it was, let a run end well, and move it then; or, in a "
            "local folder, `tidemark rebuild` the table"
        )
        raise PipelineError(message) from error


def _follow(store: LocalStore, lake: Lake, table: str) -> None:
    """Let the checkpoint's log of files name them where they lie now.

    The oldest part is written last: by it one sees whether all of it is done.
    """
    log = f"{lake.checkpoint('silver', table)}/sources/0"
    parts = [name for name in store.names(log) if name.partition(".")[0].isdigit()]
    parts.sort(key=lambda name: int(name.partition(".")[0]), reverse=True)
    folder = _escaped(f"/{lake.bronze_folder(table)}/")
    # As Hadoop writes it: without `..`, links as they are.
    here = f"file://{_escaped(os.path.normpath(store.root.absolute()))}{folder}"
    if not parts or _rewritten(store, f"{log}/{parts[-1]}", folder, here) is None:
        return
    for name in parts:
        path = f"{log}/{name}"
        data = _rewritten(store, path, folder, here)
        if data is not None:
            # Hadoop keeps a checksum beside each file, and does without one.
            store.remove(str(PurePosixPath(path).with_name(f".{name}.crc")))
            store.write(path, data)


def _rewritten(store: LocalStore, path: str, folder: str, here: str) -> bytes | None:
    """Give a part of the log with its files where they lie now; None if that is what it says."""
    content = store.read(path)
    if content is None:
        return None
    version, *lines = content.data.decode().split("\n")  # a name may hold other ends of lines
    entries = [json.loads(line) for line in lines if line]
    moved = [e for e in entries if not e["path"].startswith(here) and folder in e["path"]]
    for entry in moved:
        entry["path"] = here + entry["path"].rpartition(folder)[2]
    written = (json.dumps(e, separators=(",", ":"), ensure_ascii=False) for e in entries)
    return "\n".join([version, *written]).encode() if moved else None


def _escaped(path: str) -> str:
    return "".join(quote(c) if c in _ESCAPED or not c.isprintable() else c for c in path)
