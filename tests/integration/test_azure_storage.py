"""What every storage of a lake promises, on Azure's emulator; and Azure's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import azurite
import pytest
import quarantine_race
from azure.storage.blob import BlobLeaseClient
from azurite import ACCOUNT, KEY, Azurite
from flaky_proxy import FlakyProxy, proxy
from store_contract import MB, PROMISES, data_of

from tidemark import storage_azure
from tidemark.errors import ConfigError, LakeError, LakeUnavailable, is_transient
from tidemark.lake_access import LakeAccess
from tidemark.layout import Lake, joined_roots
from tidemark.storage import Store
from tidemark.storage_azure import AzureStore

RESERVER = """
import sys
from tidemark.errors import ReadOvertaken
from tidemark.layout import Lake
from tidemark.storage import open_store
from tidemark.watermark import reserve
store = open_store(sys.argv[1])
for _ in range(8):
    while True:
        try:
            print(reserve(store, Lake(sys.argv[1]), "DimUser").isoformat())
            break
        except ReadOvertaken:
            pass
"""
PUBLISHER = """
import sys
from tidemark.storage import open_store
store = open_store(sys.argv[1])
store.local_path("bronze/T/_new").write_bytes(b"x" * 60 * 2**20)
print("begins", flush=True)
store.publish("bronze/T/_new", "bronze/T/T_1")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Azurite]:
    with azurite.server() as found:
        yield found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Try again without pauses, and keep large files in the test's own folder."""
    for name in ("initial_backoff", "increment_base", "random_jitter_range"):
        monkeypatch.setitem(storage_azure.RETRIES, name, 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def azure(server: Azurite) -> AzureStore:
    return AzureStore(server.lake(), server.access)


@pytest.fixture(params=["by key", "by a signature"])
def store(request: pytest.FixtureRequest, server: Azurite) -> Store:
    by_key = request.param == "by key"
    return AzureStore(server.lake(), server.access if by_key else server.access_by_signature)


@pytest.fixture
def flaky(server: Azurite) -> Iterator[FlakyProxy]:
    with proxy(server.endpoint) as found:
        yield found


@pytest.fixture
def disturbed(server: Azurite, flaky: FlakyProxy) -> AzureStore:
    return AzureStore(server.lake(), replace(server.access, endpoint=flaky.endpoint))


# --- every storage


@pytest.mark.parametrize("promise", PROMISES)
def test_what_every_storage_promises(promise: str, store: Store) -> None:
    PROMISES[promise](store)


# --- Azure alone


def test_processes_get_distinct_sequences(
    server: Azurite, azure: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", RESERVER, azure.root]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [worker.communicate()[0].split() for worker in workers]
    assert all(output == sorted(output) and len(output) == 8 for output in outputs)
    assert len({sequence for output in outputs for sequence in output}) == 24


def test_processes_that_write_a_quarantine_at_once_lose_nothing(
    server: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    quarantine_race.assert_nothing_is_lost(server.lake(), dict(os.environ))


def test_a_publisher_that_is_killed_while_it_uploads_leaves_nothing_visible(
    server: Azurite, flaky: FlakyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = server.lake()
    store = AzureStore(root, server.access)
    access = replace(server.access, endpoint=flaky.endpoint)
    monkeypatch.setenv("TIDEMARK_LAKE_ACCESS", access.to_json())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISHER, root])
    while sum("comp=block&" in seen for seen in flaky.seen) < 3:
        assert publisher.poll() is None
        time.sleep(0.01)
    publisher.send_signal(signal.SIGKILL)
    publisher.wait()
    assert not any("comp=blocklist" in seen for seen in flaky.seen)
    assert store.names("bronze/T") == ["_new"], (
        "on this machine's disk, for the next read to remove"
    )
    assert data_of(store, "bronze/T/T_1") is None
    store.publish("bronze/T/_new", "bronze/T/T_1")
    assert data_of(store, "bronze/T/T_1") == b"x" * 60 * MB


def test_a_broken_upload_leaves_nothing_visible(disturbed: AzureStore, flaky: FlakyProxy) -> None:
    flaky.rule = lambda _method, path: 500 if "comp=blocklist" in path else None
    disturbed.local_path("bronze/T/_new").write_bytes(b"x" * 20 * MB)
    with pytest.raises(LakeUnavailable, match=r"^bronze/T/T_1 .*HTTP 500"):
        disturbed.publish("bronze/T/_new", "bronze/T/T_1")
    flaky.first(0, 0)
    assert disturbed.names("bronze/T") == ["_new"]
    disturbed.publish("bronze/T/_new", "bronze/T/T_1")
    assert disturbed.names("bronze/T") == ["T_1"]


@pytest.mark.parametrize("what", [429, 500, 503, "drop"])
@pytest.mark.parametrize(
    "operation", ["read", "write_if", "names", "names_below", "publish", "readable", "remove"]
)
def test_what_passes_is_tried_again(
    disturbed: AzureStore, flaky: FlakyProxy, what: int | str, operation: str
) -> None:
    disturbed.write("a/x", b"old")
    disturbed.local_path("a/_new").write_bytes(b"new" * 6 * MB)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: data_of(disturbed, "a/x"),
        "write_if": lambda: data_of(disturbed, "a/y") or disturbed.write_if("a/y", b"1", None),
        "names": lambda: disturbed.names("a"),
        "names_below": lambda: disturbed.names_below("a"),
        "publish": lambda: disturbed.publish("a/_new", "a/new"),
        "readable": lambda: disturbed.readable("a/x").read(),
        "remove": lambda: disturbed.remove("a/x"),
    }
    flaky.seen.clear()
    flaky.first(3, what)
    calls[operation]()
    flaky.first(0, 0)
    assert len(flaky.seen) > 3
    there = {"publish": ["new", "x"], "remove": ["_new"], "write_if": ["_new", "x", "y"]}
    assert disturbed.names("a") == there.get(operation, ["_new", "x"])


@pytest.mark.parametrize("operation", ["write_if", "publish"])
def test_a_write_whose_answer_was_lost_is_known_as_ones_own(
    disturbed: AzureStore, flaky: FlakyProxy, operation: str
) -> None:
    version = disturbed.write_if("state", b"1", None)
    disturbed.local_path("_new").write_bytes(b"new")
    flaky.first(1, "lose", "PUT")
    if operation == "write_if":
        version = disturbed.write_if("state", b"2", version)
        assert disturbed.write_if("state", b"3", version)
    else:
        disturbed.publish("_new", "new")
    wanted = {"write_if": b"3", "publish": b"new"}[operation]
    assert data_of(disturbed, "state" if operation == "write_if" else "new") == wanted


def test_when_it_stays_disturbed_a_later_try_is_wanted(
    disturbed: AzureStore, flaky: FlakyProxy
) -> None:
    flaky.rule = lambda _method, _path: 503
    with pytest.raises(LakeUnavailable, match=r"^a/x .*HTTP 503.*throttles") as caught:
        disturbed.read("a/x")
    assert is_transient(caught.value)
    assert len(flaky.seen) == 7


def test_an_account_that_does_not_answer_is_named() -> None:
    access = LakeAccess(endpoint="http://127.0.0.1:9/nobody", account_key=KEY)
    store = AzureStore("abfs://lake@nobody.dfs.core.windows.net", access)
    with pytest.raises(LakeUnavailable, match=r"^x .*account 'nobody'.*can't be reached.*network"):
        store.read("x")


@pytest.mark.parametrize(
    "operation", ["read", "names", "names_below", "write", "remove", "write_if", "upload"]
)
def test_a_missing_container_is_named(server: Azurite, operation: str) -> None:
    store = AzureStore(f"abfs://nowhere@{ACCOUNT}.dfs.core.windows.net/x", server.access)
    store.local_path("a").write_bytes(b"")
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: store.read("a"),
        "names": lambda: store.names("a"),
        "names_below": lambda: store.names_below("a"),
        "write": lambda: store.write("a", b""),
        "write_if": lambda: store.write_if("a", b"", None),
        "remove": lambda: store.remove("a"),
        "upload": lambda: store.upload("a"),
    }
    words = (
        r"^a .*'nowhere'.*ContainerNotFound.*HTTP 404.*az storage container create --name nowhere"
    )
    with pytest.raises(LakeError, match=words) as caught:
        calls[operation]()
    assert not is_transient(caught.value)


def test_a_rotated_key_is_named_and_not_shown(server: Azurite) -> None:
    other = f"{KEY[:10]}{'A' * 10}{KEY[20:]}"
    store = AzureStore(server.lake(), replace(server.access, account_key=other))
    # Azure itself says AuthenticationFailed.
    words = (
        r"^x .*AuthorizationFailure.*HTTP 403.*an account key: was it rotated.*TIDEMARK_LAKE_CONN"
    )
    with pytest.raises(LakeError, match=words) as caught:
        store.read("x")
    assert other not in str(caught.value)
    assert other not in repr(store)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("AuthenticationFailed", "was it rotated"),
        ("AuthorizationPermissionMismatch", "role 'Storage Blob Data Contributor'"),
        ("KeyBasedAuthenticationNotPermitted", "takes no keys: use an identity"),
        ("AuthorizationFailure", "firewall"),
        ("SomethingNew", "role 'Storage Blob Data Contributor'"),
    ],
)
def test_each_refusal_of_azures_has_its_remedy(
    disturbed: AzureStore, flaky: FlakyProxy, code: str, remedy: str
) -> None:
    flaky.error_code = code
    flaky.rule = lambda _method, _path: 403
    with pytest.raises(LakeError, match=rf"^x .*{code} .HTTP 403., with an account key.*{remedy}"):
        disturbed.read("x")
    assert len(flaky.seen) == 1, "no other try: it would be refused again"


def test_a_leased_blob_is_named(azure: AzureStore) -> None:
    version = azure.write_if("cdc.json", b"1", None)
    blob, _ = azure._blob("cdc.json")
    lease = BlobLeaseClient(blob)
    lease.acquire()
    for write in (
        lambda: azure.write_if("cdc.json", b"2", version),
        lambda: azure.write("cdc.json", b"2"),
        lambda: azure.remove("cdc.json"),
    ):
        with pytest.raises(LakeError, match=r"^cdc.json .*LeaseIdMissing.*az storage blob lease"):
            write()
    assert data_of(azure, "cdc.json") == b"1"
    lease.release()
    assert azure.write_if("cdc.json", b"2", version)


def test_without_any_identity_the_ways_to_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    storage_azure.identity.cache_clear()
    store = AzureStore("abfss://lake@account1.dfs.core.windows.net", LakeAccess())
    with pytest.raises(
        LakeError, match=r"^x .*managed identity.*workload identity.*TIDEMARK_LAKE_C"
    ):
        store.read("x")


def test_a_key_of_another_account_is_refused() -> None:
    access = LakeAccess(account="one", account_key=KEY)
    store = AzureStore("abfss://lake@other.dfs.core.windows.net", access)
    with pytest.raises(LakeError, match=r"of account 'one' does not open account 'other'"):
        store.read("x")


def test_a_folder_that_hadoop_marks_is_no_file(azure: AzureStore) -> None:
    azure.write("silver/T/x", b"")
    blob, _ = azure._blob("silver/T")
    blob.upload_blob(b"", metadata={"hdi_isfolder": "true"})
    assert (azure.names("silver"), azure.folders("silver")) == ([], ["T"])
    assert azure.names("silver/T") == ["x"]
    assert azure.names_below("silver") == ["T/x"]


def test_each_layer_may_have_a_url_of_its_own(server: Azurite) -> None:
    root = joined_roots(server.lake(""), server.lake("team/silver"), server.lake("gold"))
    store, lake = AzureStore(root, server.access), Lake(root)
    for path in (
        lake.state_file("T"),
        lake.silver("T"),
        lake.marker("silver", "T"),
        lake.gold("t"),
    ):
        store.write(path, path.encode())
        assert data_of(store, path) == path.encode()
    urls = dict(part.split("=", 1) for part in root.split(";"))
    assert lake.url("bronze/T") == f"{urls['bronze']}/T"
    alone = AzureStore(urls["silver"], server.access)
    assert (alone.names(""), alone.folders("")) == (["T"], ["_tidemark"])


def test_a_url_with_a_secret_in_it_is_refused_unseen() -> None:
    store = AzureStore("abfss://lake@a.dfs.core.windows.net/x?sig=secret", LakeAccess())
    with pytest.raises(ConfigError, match="TIDEMARK_LAKE_CONNECTION") as caught:
        store.read("x")
    assert "secret" not in str(caught.value)
