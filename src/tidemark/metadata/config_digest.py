"""One value for a whole folder of metadata, by which two copies of it are known to be the same."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from tidemark.errors import ConfigError


def config_files(folder: Path) -> list[Path]:
    """List a folder's metadata files, ordered by their names; those with a leading dot are none."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in {".yaml", ".yml"})
    return sorted((p for p in files if not p.name.startswith(".")), key=lambda p: (p.stem, p.name))


def config_digest(folder: Path) -> str:
    """Digest the metadata files of a folder: their names and texts.

    A checkout may end its lines otherwise than the copy that was deployed; that does not count.

    Returns:
        64 hexadecimal digits.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder; create it, or let TIDEMARK_CONFIG name another")
    digest = sha256()
    for path in config_files(folder):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{len(path.name)}:{path.name}{len(text)}:".encode() + text)
    return digest.hexdigest()


def require_config(folder: Path, wanted: str) -> None:
    """Refuse to work by other metadata than the run that asks for it has.

    Args:
        folder: The metadata that is here.
        wanted: The digest of the run's; empty if it does not say.

    Raises:
        ConfigError: They differ.
    """
    found = config_digest(folder) if wanted else ""
    if found != wanted:
        message = (
            f"{folder}: what is deployed here is not the metadata of the run ({found[:12]}, "
            f"not {wanted[:12]}): deploy the bundle, and run again; nothing was done"
        )
        raise ConfigError(message)
