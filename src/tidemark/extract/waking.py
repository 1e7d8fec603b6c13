"""Connect to a database that may be asleep: serverless Azure SQL wakes up at the first knock.

It answers 40613 until it is awake, which takes about a minute
(https://learn.microsoft.com/azure/azure-sql/database/serverless-tier-overview).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

logger = logging.getLogger(__name__)

WAKING_SECONDS = 180.0
_BETWEEN_SECONDS = 5.0


def connected(
    engine: sa.Engine,
    is_waking: Callable[[sa.exc.DBAPIError], bool],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> sa.Connection:
    """Connect, and knock again as long as the database says that it is waking up.

    Raises:
        sqlalchemy.exc.DBAPIError: It refuses for another reason, or sleeps on.
    """
    begin = clock()
    while True:
        try:
            return engine.connect()
        except sa.exc.DBAPIError as error:
            waited = clock() - begin
            if not is_waking(error) or waited + _BETWEEN_SECONDS > WAKING_SECONDS:
                raise
            logger.info("the database is not awake yet; knocking again (%.0f s)", waited)
        sleep(_BETWEEN_SECONDS)
