"""From an Airflow connection to what opens the source, or to an error that says what to do."""

from __future__ import annotations

from pathlib import PurePath

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from sqlalchemy import URL

from tidemark.errors import SourceError
from tidemark.metadata import Source

SUPPORTED = ("mssql", "postgres", "sqlite")
_DRIVERS = {"mssql": "mssql+mssqlpython", "postgres": "postgresql+psycopg"}
# What of a connection's extra goes to the driver; the rest is Airflow's own.
_PASSED = frozenset(
    {"encrypt", "trustservercertificate", "hostnameincertificate", "authentication"}
    | {"applicationintent", "multisubnetfailover", "packetsize", "ipaddresspreference"}
    | {"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout"}
)


def source_url(source: Source) -> str:
    """Give the SQLAlchemy URL of a source. It may hold a password: never log it.

    Raises:
        SourceError: The connection is missing, of a type that can't be read, or incomplete.
    """
    return connection_url(source.source.connection, f"{source.path}: source.connection")


def connection_url(name: str, asker: str) -> str:
    """Give the SQLAlchemy URL of a connection. It may hold a password: never log it.

    Args:
        name: The connection's id.
        asker: What names it, such as a field of a file: an error begins with it.

    Raises:
        SourceError: The connection is missing, of a type that can't be read, or incomplete.
    """
    example = "--conn-type sqlite --conn-host /path/to/source.db"
    connection = _connection(name, asker, example)
    if connection.conn_type not in SUPPORTED:
        message = (
            f"{asker} {name!r} is an Airflow connection of type {connection.conn_type!r}, which "
            f"can't be read; the supported types are: {', '.join(SUPPORTED)}"
        )
        raise SourceError(message)
    driver = _DRIVERS.get(connection.conn_type)
    return _server_url(name, connection, driver) if driver else _sqlite_url(name, connection)


def mask_key(source: Source) -> str | None:
    """Give the key of columns that are masked by HMAC; None if the metadata names no connection.

    Raises:
        SourceError: The connection is missing, or has no password.
    """
    name = source.source.mask_connection
    return None if name is None else key_of(name, f"{source.path}: source.mask_connection")


def key_of(name: str, asker: str) -> str:
    """Give the password of a connection, as a key.

    Args:
        name: The connection's id.
        asker: What names it.

    Raises:
        SourceError: The connection is missing, or has no password.
    """
    key = _connection(name, asker, "--conn-type generic --conn-password …").password
    if not key:
        message = (
            f"{asker}: the Airflow connection {name!r} has no password; give it one: it is the "
            "key of the columns that are masked with hmac"
        )
        raise SourceError(message)
    return str(key)


def _connection(name: str, asker: str, example: str) -> Connection:
    try:
        connection: Connection = Connection.get(name)
    except AirflowNotFoundException as error:
        message = (
            f"{asker} {name!r} is no Airflow connection; add it with "
            f"`airflow connections add {name} {example}`, or set AIRFLOW_CONN_{name.upper()}"
        )
        raise SourceError(message) from error
    return connection


def _server_url(name: str, connection: Connection, driver: str) -> str:
    if not connection.host or not connection.schema:
        missing = "host" if not connection.host else "database"
        message = (
            f"the Airflow connection {name!r} ({connection.conn_type}) names no {missing}; give "
            "the server as its host and the database as its schema"
        )
        raise SourceError(message)
    extra = connection.extra_dejson
    url = URL.create(
        driver,
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query={key: str(value) for key, value in extra.items() if key.lower() in _PASSED},
    )
    return url.render_as_string(hide_password=False)


def _sqlite_url(name: str, connection: Connection) -> str:
    # A URI (sqlite:////data/source.db) puts the path in `schema`, a form or JSON in `host`.
    path = connection.host or connection.schema or ""
    if not PurePath(path).is_absolute():
        message = (
            f"the Airflow connection {name!r} (sqlite) names the file {path!r}; "
            "give the absolute path of the database as its host"
        )
        raise SourceError(message)
    return f"sqlite:///{path}"
