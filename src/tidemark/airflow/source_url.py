"""Tell the command line a source's URL, or its key for masks, as Airflow resolves it.

A child process of `tidemark.connection`: what was asked for goes to the parent's pipe and nowhere
else, what is amiss to standard error, on a line that begins with ``tidemark:``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Connections of Airflow's own database too, as its server sees them.
os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def main() -> int:
    """Resolve a connection of the file of metadata that is named."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Airflow's words are not the answer
    from tidemark.airflow import connections  # noqa: PLC0415  # after the redirection
    from tidemark.errors import TidemarkError  # noqa: PLC0415
    from tidemark.metadata import load_source  # noqa: PLC0415

    try:
        source = load_source(Path(sys.argv[1]))
        asked = connections.mask_key if "--mask-key" in sys.argv else connections.source_url
        answer = asked(source) or ""
    except TidemarkError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"tidemark:{message}\n")
        return 1
    with pipe:
        pipe.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
