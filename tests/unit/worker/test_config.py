"""A worker's settings: defaults, and one line for each that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.errors import SettingsError
from seedbed_worker.config import WorkerConfig

NEEDED = {"SEEDBED_ENTITIES": "my.module"}


def test_the_defaults_are_those_of_the_documentation() -> None:
    config = WorkerConfig.read(NEEDED)
    assert config.cluster == "default"
    assert (config.host, config.bind) == ("127.0.0.1", "127.0.0.1")
    assert (config.port, config.http_port) == (4685, 6685)
    assert config.seeds == ("127.0.0.1:4684",)
    assert config.roles == ("sharding",)
    assert config.app_version == "0.0.0"
    assert (config.drain_timeout_s, config.default_deadline_s) == (20, 10)
    assert config.max_message_bytes == 4 * 1024 * 1024
    assert (config.mailbox_calls, config.type_calls, config.worker_calls) == (1000, 10000, 20000)
    assert (config.idle_timeout_s, config.max_entities) == (120, 100000)
    assert config.loop_stall_limit_s == 30
    assert config.journal.read() == "sqlite:///./seedbed.db"
    assert config.journal_keep is None
    assert config.tls is None


def test_everything_can_be_set() -> None:
    config = WorkerConfig.read(
        {
            "SEEDBED_ENTITIES": "one, two:Class",
            "SEEDBED_SEEDS": "a:1,b:2",
            "SEEDBED_NODE_ID": "w-1",
            "SEEDBED_APP_REVISION": "42",
            "SEEDBED_JOURNAL": "none",
            "SEEDBED_JOURNAL_KEEP": "10",
            "SEEDBED_PORT": "0",
            "SEEDBED_ROLES": "iot,sharding",
        }
    )
    assert config.entities == ("one", "two:Class")
    assert config.seeds == ("a:1", "b:2")
    assert config.node_id == "w-1"
    assert config.app_revision == "42"
    assert config.journal.read() == "none"
    assert config.journal_keep == 10
    assert config.port == 0
    assert config.roles == ("iot", "sharding")


def test_one_name_of_seeds_is_resolved_by_grpc() -> None:
    config = WorkerConfig.read(NEEDED | {"SEEDBED_SEEDS": "dns:///seeds.ns:4684"})
    assert config.seeds == ("dns:///seeds.ns:4684",)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("SEEDBED_ENTITIES", ""),
        ("SEEDBED_ENTITIES", ","),
        ("SEEDBED_SEEDS", ""),
        ("SEEDBED_SEEDS", " , "),
        ("SEEDBED_SEEDS", "nowhere"),
        ("SEEDBED_SEEDS", "dns:///a:1,b:1"),
        ("SEEDBED_CLUSTER", "Not A Name"),
        ("SEEDBED_NODE_ID", "x" * 64),
        ("SEEDBED_PORT", "tcp://10.0.0.1:4684"),
        ("SEEDBED_HTTP_PORT", "65536"),
        ("SEEDBED_ROLES", "a b"),
        ("SEEDBED_APP_REVISION", "new"),
        ("SEEDBED_DRAIN_TIMEOUT_S", "60"),
        ("SEEDBED_MAX_ENTITIES", "0"),
        ("SEEDBED_ONWARD_CALLS", "0"),
        ("SEEDBED_PARKED_CALLS", "0"),
        ("SEEDBED_LOOP_STALL_LIMIT_S", "soon"),
        ("SEEDBED_JOURNAL", "mysql://x"),
        ("SEEDBED_JOURNAL", "sqlite:///"),
        ("SEEDBED_JOURNAL_KEEP", "some"),
        ("SEEDBED_JOURNAL_REQUIRE_SYNC", "1"),
        ("SEEDBED_TRUST_XFCC", "maybe"),
        ("SEEDBED_POLICY", "/not/there"),
        ("SEEDBED_TLS_CERT", "/not/there"),
        ("SEEDBED_LOG", "loud"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(name: str, found: str) -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerConfig.read(NEEDED | {name: found})
    text = str(caught.value)
    assert text.startswith(name)
    assert "expected" in text
    assert "\n" not in text


def test_entities_must_be_set() -> None:
    with pytest.raises(SettingsError, match="SEEDBED_ENTITIES"):
        WorkerConfig.read({})


def test_the_journal_of_an_error_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerConfig.read(NEEDED | {"SEEDBED_JOURNAL": "mysql://user:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_the_journal_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    file.write_text("postgresql://db/x\n")
    config = WorkerConfig.read(NEEDED | {"SEEDBED_JOURNAL_FILE": str(file)})
    assert config.journal.read() == "postgresql://db/x"


def test_tls_needs_all_three_files(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.write_text("x")
    with pytest.raises(SettingsError, match="SEEDBED_TLS_KEY: not set"):
        WorkerConfig.read(NEEDED | {"SEEDBED_TLS_CERT": str(pem), "SEEDBED_TLS_CA": str(pem)})
    files = {f"SEEDBED_TLS_{part}": str(pem) for part in ("CERT", "KEY", "CA")}
    tls = WorkerConfig.read(NEEDED | files).tls
    assert tls is not None
    assert tls.key == pem


def test_a_policy_that_is_not_enforced_is_warned_of(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("x")
    assert WorkerConfig.read(NEEDED).not_built() == []
    config = WorkerConfig.read(NEEDED | {"SEEDBED_POLICY": str(policy)})
    assert [name for name, _ in config.not_built()] == ["SEEDBED_POLICY"]
