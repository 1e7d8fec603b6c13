"""Tell the command line a connection's URL, or its key for masks, as Airflow resolves it.

A child process of `tidemark.connection`: what was asked for goes to the parent's pipe and nowhere
else, what is amiss to standard error, on a line that begins with ``tidemark:``.
"""

from __future__ import annotations

import os
import sys

# Connections of Airflow's own database too, as its server sees them.
os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")


def main() -> int:
    """Resolve the connection that is named; behind it stands what names it."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Airflow's words are not the answer
    from tidemark.airflow import connections  # noqa: PLC0415  # after the redirection
    from tidemark.errors import TidemarkError  # noqa: PLC0415

    try:
        asked = connections.key_of if "--mask-key" in sys.argv else connections.connection_url
        answer = asked(*sys.argv[1:3])
    except TidemarkError as error:
        message = " ".join(str(error).split())
        sys.stderr.write(f"tidemark:{message}\n")
        return 1
    with pipe:
        pipe.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
