"""Which of SQL Server's errors pass by themselves."""

from __future__ import annotations

import re

import sqlalchemy as sa

# Number → a part of the message. Microsoft's driver passes the message on, and not the number.
TRANSIENT: dict[int, str] = {
    64: "the specified network name is no longer available",
    233: "no process is on the other end of the pipe",
    # A range of LSNs that was cleaned up since it was planned; the next plan reads the whole table.
    313: "insufficient number of arguments were supplied for the procedure or function cdc.",
    1205: "was deadlocked on",
    1222: "lock request time out period exceeded",
    # A table that was altered while a snapshot was open.
    3961: "snapshot isolation transaction failed in database",
    10053: "transport-level error",
    10054: "forcibly closed by the remote host",
    10060: "did not properly respond after a period of time",
    10928: "limit for the database is",
    10929: "minimum guarantee is",
    40197: "the service has encountered an error processing your request",
    40501: "the service is currently busy",
    40613: "is not currently available",
    49918: "not enough resources to process request",
    49919: "too many create or update operations in progress",
    49920: "too many operations in progress",
}
# What the driver says of a SQLSTATE, without a number: 40001, 08xxx, HYT00, HYT01.
_STATES = (
    "serialization failure",
    "client unable to establish connection",
    "communication link failure",
    "connection failure during transaction",
    "disconnect error",
    "timeout expired",
)
_NUMBER = re.compile(r"(?:error(?: number| code)?:?\s*|msg |^\()(\d{2,5})\b", re.IGNORECASE)
_REFUSED = ("login failed", "cannot open database", "certificate")

# A part of the message → what to do.
_REMEDIES: dict[str, str] = {
    "login failed": "give the Airflow connection a login that the server takes, its password as it "
    "is now, or Authentication=ActiveDirectoryMSI in its extra and CREATE USER … FROM EXTERNAL "
    "PROVIDER in the database,",
    "cannot open database": "correct the connection's schema (the database's name), or CREATE USER "
    "for the login in it",
    "is not allowed to access the server": "let the server's firewall pass this machine, or use "
    "a private endpoint,",
    "password of the account has expired": "change the login's password, at the server and in the "
    "connection,",
    "password has expired": "change the login's password, at the server and in the connection,",
    "certificate": "let this machine trust the server's certificate (on a server of your own, "
    "TrustServerCertificate=yes in the connection's extra)",
    "permission was denied": "GRANT it to the login (docs/sqlserver.md lists what each strategy "
    "needs)",
}


def is_transient_text(reason: str) -> bool:
    """Tell by an error's text whether the same statement may succeed a little later.

    A refused login comes with the state of a failed connection, and stays refused.
    """
    lower = reason.lower()
    if any(part in lower for part in TRANSIENT.values()):
        return True
    if any(int(number) in TRANSIENT for number in _NUMBER.findall(reason)):
        return True
    return any(state in lower for state in _STATES) and not any(no in lower for no in _REFUSED)


def is_transient(error: sa.exc.DBAPIError) -> bool:
    """Tell whether the same statement may succeed a little later."""
    return error.connection_invalidated or is_transient_text(str(error.orig))


def is_waking(error: sa.exc.DBAPIError) -> bool:
    """Tell whether a serverless database was asleep and wakes up now: error 40613."""
    reason = str(error.orig).lower()
    return TRANSIENT[40613] in reason or "40613" in _NUMBER.findall(reason)


def remedy(reason: str) -> str | None:
    """Say what mends an error; None: that is not known."""
    lower = reason.lower()
    return next((words for part, words in _REMEDIES.items() if part in lower), None)
