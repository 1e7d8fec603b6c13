"""Silver's files on Databricks: Auto Loader is asked for what is documented, and no more."""

from __future__ import annotations

from typing import Any, cast

import pytest
from auto_loader_double import AutoLoader
from pyspark.sql.types import LongType, StructField, StructType

from tidemark.errors import ConfigError
from tidemark.layout import Lake
from tidemark.spark import bronze_stream as module
from tidemark.spark import session as sessions
from tidemark.spark.bronze_stream import StreamSchema, allow_adfs_names, bronze_stream
from tidemark.spark.databricks import (
    EVOLUTION,
    FILES_BY,
    MAX_FILES,
    RESCUED,
    auto_loader,
    auto_loader_options,
)
from tidemark.storage import LocalStore

COLUMNS = StructType([StructField("user_id", LongType())])


@pytest.fixture
def databricks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")


def opened(folder: str = "abfss://lake@account.dfs.core.windows.net/bronze/T") -> AutoLoader:
    double = AutoLoader()
    auto_loader(cast("Any", double), COLUMNS).load(folder)
    return double


def test_the_schema_is_ours_and_what_does_not_fit_is_rescued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (FILES_BY, MAX_FILES, EVOLUTION):
        monkeypatch.delenv(name, raising=False)
    double = opened()
    assert double.columns == COLUMNS
    assert double.options == {
        "cloudFiles.format": "parquet",
        "cloudFiles.schemaEvolutionMode": "none",
        "cloudFiles.maxFilesPerTrigger": "1000",
        "cloudFiles.partitionColumns": "",
        "cloudFiles.validateOptions": "true",
        "rescuedDataColumn": RESCUED,
        "readerCaseSensitive": "false",
    }


@pytest.mark.parametrize(
    ("way", "option"),
    [
        ("listing", None),
        ("events", "cloudFiles.useManagedFileEvents"),
        ("notifications", "cloudFiles.useNotifications"),
    ],
)
def test_how_files_are_found_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, way: str, option: str | None
) -> None:
    monkeypatch.setenv(FILES_BY, way)
    monkeypatch.setenv(MAX_FILES, "50")
    double = opened()
    assert double.options["cloudFiles.maxFilesPerTrigger"] == "50"
    found = [name for name in double.options if "Notif" in name or "Events" in name]
    assert found == ([option] if option else [])


@pytest.mark.parametrize("mode", ["none", "rescue", "failOnNewColumns"])
def test_what_becomes_of_a_column_that_the_schema_lacks_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv(EVOLUTION, mode)
    assert opened().options["cloudFiles.schemaEvolutionMode"] == mode


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        (FILES_BY, "event", "one of listing, events, notifications"),
        (EVOLUTION, "addNewColumns", "one of none, rescue, failOnNewColumns"),
        (MAX_FILES, "0", "a whole number above 0"),
        (MAX_FILES, "many", "a whole number above 0"),
    ],
)
def test_a_setting_that_is_none_is_named(name: str, value: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is '{value}'; set it to {remedy}"):
        auto_loader_options({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cloudFiles.schemaEvolution", "none"),
        ("cloudFiles.schemaEvolutionMode", "no"),
        ("cloudFiles.maxFilesPerTrigger", "0"),
        ("maxFileAge", "36500d"),
        ("rescuedDataColumn", ""),
    ],
)
def test_the_double_refuses_what_is_not_documented(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="Auto Loader"):
        AutoLoader().option(name, value)


def test_the_double_refuses_options_that_exclude_each_other() -> None:
    given = AutoLoader().format("cloudFiles").option("cloudFiles.format", "parquet")
    with pytest.raises(ValueError, match="schemaLocation is required"):
        given.load("x")
    given.schema(COLUMNS).option("cloudFiles.schemaEvolutionMode", "addNewColumns")
    with pytest.raises(ValueError, match="not allowed where the schema is given"):
        given.load("x")


@pytest.mark.usefixtures("databricks")
def test_bronze_is_opened_by_auto_loader_on_databricks(monkeypatch: pytest.MonkeyPatch) -> None:
    double = AutoLoader()
    seen: list[Any] = []
    # What is done to its rows is the same on both engines, and tested on Spark.
    monkeypatch.setattr(module, "published", lambda rows, *_: seen.append(rows) or rows)
    monkeypatch.setattr(module, "with_order", lambda rows: rows)
    lake = Lake("abfss://lake@account.dfs.core.windows.net/root")
    bronze_stream(cast("Any", double), lake, "T", StreamSchema(COLUMNS, frozenset()))
    assert double.source == "cloudFiles"
    assert seen == [double]
    assert double.folder == "abfss://lake@account.dfs.core.windows.net/root/bronze/T"


class _NoJvm:
    """A session of Spark Connect: it has no SparkContext."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"[JVM_ATTRIBUTE_NOT_SUPPORTED] {name}")


@pytest.mark.usefixtures("databricks")
def test_nothing_asks_for_a_spark_context_on_databricks(tmp_path: Any) -> None:
    spark = cast("Any", _NoJvm())
    (tmp_path / "bronze" / "T").mkdir(parents=True)
    (tmp_path / "bronze" / "T" / "T_2025-10-07T19:49:55.1234567Z").touch()
    sessions.suit_to(spark, ["bronze/T"])
    assert sessions.tables_at_once(spark) == 8
    allow_adfs_names(spark, LocalStore(tmp_path), Lake(str(tmp_path)), ["T"])
