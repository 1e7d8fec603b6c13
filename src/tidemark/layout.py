"""Where things lie in the lake.

``bronze/<Table>/`` and ``bronze/<Table>_cdc/cdc.json`` are Azure Data Factory's own layout, so that
a team cuts over, or back, without a reload. Everything that is only ours lies under ``_tidemark/``,
whose leading underscore makes Spark's readers pass it over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

SEQUENCE_FORMAT = "%Y%m%dT%H%M%S%fZ"
# ADF's own names: `<Table>_<utcNow()>` with colons, up to seven fractional digits, no extension.
_ADF_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,7}))?Z?$")
_OWN_STAMP = re.compile(r"\d{8}T\d{12}Z$")
_INTERNAL = "_tidemark"
LAYERS = ("bronze", "silver", "gold")

# Where files are published below a table's folder, in either layout; Spark reads it as we do.
PUBLISHED = r"(date=\d{4}-\d\d-\d\d/)?[^/]+"


@dataclass(frozen=True)
class Lake:
    """A lake's root and the paths below it, all relative to the root and joined by ``/``.

    Attributes:
        root: An absolute folder or URL, without a trailing slash; or a URL for each layer, from
            `joined_roots`.
        beside: A folder of the lake in which silver, gold and all that is kept about them are
            built, instead of in the lake itself; bronze stays where it is. Empty: the lake itself.
    """

    root: str
    beside: str = ""

    def url(self, relative: str) -> str:
        """Give the absolute path or URL of a path of this lake."""
        return "/".join(filter(None, located(self.root, relative)))

    def bronze_folder(self, table: str) -> str:
        """Give the folder of a table's bronze files."""
        return f"bronze/{table}"

    def bronze_file(self, table: str, sequence: datetime, *, dated: bool = False) -> str:
        """Give the name under which the read with this sequence is published.

        Args:
            table: The table.
            sequence: The read's own, UTC.
            dated: Whether it lies in a folder for the sequence's day, and not directly in the
                table's, as Azure Data Factory's files do.
        """
        day = f"date={sequence.astimezone(UTC).date()}/" if dated else ""
        return f"{self.bronze_folder(table)}/{day}{table}_{sequence_text(sequence)}.parquet"

    def temporary_file(self, table: str, sequence: datetime, attempt: str = "") -> str:
        """Give the name that a read writes to; readers skip what begins with ``_``.

        Args:
            table: The table's name in the lake.
            sequence: The read's own.
            attempt: Keeps two attempts apart that may be under way under one sequence.
        """
        stem = "_".join(filter(None, [f"_{table}", attempt, sequence_text(sequence)]))
        return f"{self.bronze_folder(table)}/{stem}.parquet"

    def state_folder(self, table: str) -> str:
        """Give the folder of what is kept about a table's reads."""
        return f"bronze/{table}_cdc"

    def state_file(self, table: str) -> str:
        """Give the watermark's file, ADF's ``cdc.json``."""
        return f"{self.state_folder(table)}/cdc.json"

    def digest_file(self, table: str, sequence: datetime, attempt: str = "") -> str:
        """Give the file of the digests that the read with this sequence leaves behind."""
        stem = "_".join(filter(None, ["digests", attempt, sequence_text(sequence)]))
        return f"{self.state_folder(table)}/{stem}.parquet"

    def silver(self, table: str) -> str:
        """Give the Delta table of a table's current state."""
        return self._built(f"silver/{table}")

    def changes(self, table: str) -> str:
        """Give the append-only Delta table of a table's distinct changes."""
        return self._built(f"silver/{table}_changes")

    def gold(self, name: str) -> str:
        """Give a gold table's Delta table."""
        return self._built(f"gold/{name}")

    def gold_quarantine(self, name: str) -> str:
        """Give the Delta table of the changes that a gold table's expectations dropped."""
        return self.gold(f"{name}_quarantine")

    def marker(self, layer: str, table: str) -> str:
        """Give the small file that says what a layer (silver, gold) has done of a table."""
        return self._built(f"{_INTERNAL}/markers/{layer}/{table}.json")

    def checkpoint(self, layer: str, name: str) -> str:
        """Give the checkpoint folder of a table's stream into a layer."""
        return self._built(f"{_INTERNAL}/checkpoints/{layer}/{name}")

    def begun_batch(self, name: str) -> str:
        """Give the file that says by which rules gold judges the batch that it has begun last."""
        return f"{self.checkpoint('gold', name)}/_begun.json"

    def stream_schema(self, table: str) -> str:
        """Give the file that names the bronze files which silver's stream has met."""
        return f"{self.checkpoint('silver', table)}/_schema.json"

    def quarantined_files(self, table: str) -> str:
        """Give the file that names the bronze files which silver can't read."""
        return f"{self.checkpoint('silver', table)}/_quarantine.json"

    def table_lock(self, table: str) -> str:
        """Give the file that whoever writes a table's silver locks."""
        return self._built(f"{_INTERNAL}/locks/silver.{table}.lock")

    def stream_lock(self, table: str) -> str:
        """Give the file that a continuous stream of a table locks as long as it runs."""
        return f"{_INTERNAL}/locks/stream.{table}.lock"

    def auxiliary(self, name: str) -> str:
        """Give the Delta table that the local AUTO CDC keeps beside a gold table."""
        return self._built(f"{_INTERNAL}/autocdc/{name}")

    def layers_lock(self, source: str) -> str:
        """Give the file that runs and a rebuild of a source lock while they build."""
        return self._built(f"{_INTERNAL}/locks/{source}.lock")

    def swap_file(self, source: str) -> str:
        """Give the journal of a rebuild's swap; it is there only until the swap is whole."""
        return self._built(f"{_INTERNAL}/rebuild/{source}.json")

    def rebuild_folder(self, source: str) -> str:
        """Give the folder in which rebuilds of a source build."""
        return f"{_INTERNAL}/rebuild/{source}"

    def replaced_folder(self, source: str) -> str:
        """Give the folder of what rebuilds of a source have replaced, a folder each."""
        return f"{_INTERNAL}/replaced/{source}"

    def run_folder(self, source: str, run_id: str) -> str:
        """Give the folder of one Dag run's reports."""
        return f"{_INTERNAL}/runs/{source}/{quote(run_id, safe='')}"

    def alert_file(self, source: str) -> str:
        """Give the file that remembers how a source's last run ended."""
        return f"{_INTERNAL}/alerts/{source}.json"

    def _built(self, path: str) -> str:
        return f"{self.beside}/{path}" if self.beside else path


def joined_roots(bronze: str, silver: str, gold: str) -> str:
    """Write the roots of a lake that has a URL for each layer as one text."""
    urls = zip(LAYERS, (bronze, silver, gold), strict=True)
    return ";".join(f"{layer}={url}" for layer, url in urls)


def located(root: str, relative: str) -> tuple[str, str]:
    """Say below which URL or folder a path of a lake lies, and where there.

    Where each layer has a URL, ``bronze/<Table>`` is ``<Table>`` below bronze's; what is in no
    layer (``_tidemark/``) lies with silver.
    """
    if not root.startswith("bronze="):
        return root, relative
    urls = dict(part.split("=", 1) for part in root.split(";"))
    layer, _, rest = relative.partition("/")
    return (urls[layer], rest) if layer in urls else (urls["silver"], relative)


def sequence_text(sequence: datetime) -> str:
    """Write a sequence (UTC, microseconds) as it stands in a file's name."""
    return sequence.astimezone(UTC).strftime(SEQUENCE_FORMAT)


def sequence_of(file_name: str) -> datetime | None:
    """Read the sequence out of a bronze file's name, ours or ADF's.

    Args:
        file_name: The name without its folder.

    Returns:
        A UTC timestamp, cut to microseconds, or None if this is no bronze file's name (a
        temporary file, a success marker).
    """
    if file_name.startswith(("_", ".")):
        return None
    try:
        return _stamp_of(file_name.removesuffix(".parquet"))
    except ValueError:  # digits that are no date
        return None


def is_published_at(path: str) -> bool:
    """Tell whether a path below a table's bronze folder is one of a published file's, by layout.

    Both layouts are read, whatever the metadata says: it may have been changed.
    """
    return re.fullmatch(PUBLISHED, path, re.ASCII) is not None


def _stamp_of(stem: str) -> datetime | None:
    own = _OWN_STAMP.search(stem)
    if own:
        return datetime.strptime(own.group(), SEQUENCE_FORMAT).replace(tzinfo=UTC)
    adf = _ADF_STAMP.search(stem)
    if adf:
        fraction = (adf.group(2) or "")[:6].ljust(6, "0")
        return datetime.fromisoformat(f"{adf.group(1)}.{fraction}+00:00")
    return None
