"""The seed's settings: defaults, and one line for what is wrong."""

from __future__ import annotations

import pytest

from seedbed.errors import SettingsError
from seedbed_seed.config import SeedConfig
from seedbed_seed.core.decisions import CoordinatorSettings, RebalanceSettings


def test_an_empty_environment_is_a_whole_configuration() -> None:
    config = SeedConfig.read({})
    assert config.cluster == "default"
    assert (config.port, config.http_port) == (4684, 6684)
    assert config.etcd == ("http://127.0.0.1:2379",)
    assert config.lease_ttl_s == 5
    assert config.evidence == "durable"
    assert config.role_of("anything") == "sharding"


def test_memory_names_no_endpoints() -> None:
    assert SeedConfig.read({"SEEDBED_ETCD": "memory"}).etcd == ()


def test_types_may_be_hosted_under_roles_of_their_own() -> None:
    config = SeedConfig.read({"SEEDBED_SHARDING_ROLE": "main,thermostat=iot,door=iot"})
    assert config.role_of("thermostat") == "iot"
    assert config.role_of("lamp") == "main"
    only = SeedConfig.read({"SEEDBED_SHARDING_ROLE": "thermostat=iot"})
    assert only.role_of("lamp") == "sharding"


def test_what_the_coordinator_decides_by_are_settings() -> None:
    environ = {
        "SEEDBED_LEASE_TTL_S": "3",
        "SEEDBED_MIN_WORKERS": "4",
        "SEEDBED_EVIDENCE": "all",
        "SEEDBED_HANDOFF_TIMEOUT_S": "1.5",
        "SEEDBED_REBALANCE_INTERVAL_S": "0.5",
        "SEEDBED_REBALANCE_THRESHOLD": "0.2",
        "SEEDBED_REBALANCE_MAX_MOVES": "7",
        "SEEDBED_REBALANCE_COOLING_S": "8",
    }
    found = SeedConfig.read(environ).coordinator
    assert found == CoordinatorSettings(
        strategy=found.strategy,
        ttl_ns=3_000_000_000,
        min_workers=4,
        evidence="all",
        handoff_timeout_ms=1500,
        rebalance=RebalanceSettings(
            interval_ns=500_000_000, threshold=0.2, max_moves=7, cooling_ns=8_000_000_000
        ),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEEDBED_ETCD", ""),
        ("SEEDBED_ETCD", "127.0.0.1:2379"),
        ("SEEDBED_ETCD", "http://a:1,https://b:1"),
        ("SEEDBED_LEASE_TTL_S", "1"),
        ("SEEDBED_LEASE_TTL_S", "2.5"),
        ("SEEDBED_EVIDENCE", "maybe"),
        ("SEEDBED_SHARDS", "0"),
        ("SEEDBED_SHARDS", "5000"),
        ("SEEDBED_MIN_WORKERS", "0"),
        ("SEEDBED_SHARDING_ROLE", "a,b"),
        ("SEEDBED_SHARDING_ROLE", "a,=iot"),
        ("SEEDBED_PORT", "70000"),
        ("SEEDBED_CLUSTER", "No Name"),
        ("SEEDBED_NODE_ID", "UPPER"),
        ("SEEDBED_DEFAULT_DEADLINE_S", "0"),
        ("SEEDBED_MAX_MESSAGE_BYTES", "12"),
        ("SEEDBED_TLS_CERT", "/no/such/file"),
        ("SEEDBED_REBALANCE_MAX_MOVES", "many"),
        ("SEEDBED_ORDERED_PINS", "-1"),
        ("SEEDBED_ORDERED_NODES", "0"),
        ("SEEDBED_EVENTS_KEPT", "0"),
        ("SEEDBED_EVENT_READERS", "none"),
        ("SEEDBED_LOG", "loud"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as raised:
        SeedConfig.read({name: value})
    text = str(raised.value)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text


def test_https_needs_an_authority_and_cert_and_key_together() -> None:
    with pytest.raises(SettingsError, match=r"SEEDBED_ETCD_CA: "):
        SeedConfig.read({"SEEDBED_ETCD": "https://a:1"})
    with pytest.raises(SettingsError, match=r"SEEDBED_ETCD_KEY: "):
        SeedConfig.read(
            {
                "SEEDBED_ETCD": "https://a:1",
                "SEEDBED_ETCD_CA": __file__,
                "SEEDBED_ETCD_CERT": __file__,
            }
        )


def test_tls_needs_all_three_files() -> None:
    with pytest.raises(SettingsError, match=r"SEEDBED_TLS_CA: "):
        SeedConfig.read({"SEEDBED_TLS_CERT": __file__, "SEEDBED_TLS_KEY": __file__})
