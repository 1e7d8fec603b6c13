"""Write `.env`, the compose stack's secrets, from `.env.example`: `make env`.

Needs Python alone. A file that is there is never overwritten: the volumes know its passwords.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# Passwords stand in URLs and in JSON: letters and digits alone. SQL Server wants three kinds.
MAKERS = {
    "<password>": lambda: f"Tm1{secrets.token_hex(16)}",
    "<fernet key>": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "<storage key>": lambda: base64.b64encode(secrets.token_bytes(64)).decode(),
    "<secret>": lambda: secrets.token_hex(32),
}


def filled(example: str) -> str:
    """Put a random value in the place of each mark in the example's lines `NAME=<mark>`."""
    return re.sub(
        r"^(\w+=)(<[a-z ]+>)$", lambda m: m[1] + MAKERS[m[2]](), example, flags=re.MULTILINE
    )


def main(folder: Path = PROJECT) -> int:
    """Write the file; its owner alone may read it."""
    target = folder / ".env"
    text = filled((folder / ".env.example").read_text())
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{target} is there already, and is left as it is")
        return 0
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    print(f"wrote {target}: the log-ins are in docs/local-stack.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
