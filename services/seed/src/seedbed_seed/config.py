"""The seed's settings, read once from the environment; a bad one stops the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seedbed.errors import SettingsError
from seedbed.parking import ParkingLimits
from seedbed.service import logs
from seedbed.service.telemetry import TelemetrySettings
from seedbed.settings import NAME, NAME_RULE, Reader, bad_setting
from seedbed.sharding import MAX_SHARDS
from seedbed.shared_settings import max_message_bytes, parking_limits, tls_files
from seedbed.tls import TlsFiles
from seedbed_seed.core.decisions import CoordinatorSettings, Evidence, RebalanceSettings
from seedbed_seed.events import EventLimits
from seedbed_seed.order_verbs import OrderLimits

MEMORY = "memory"
"""SEEDBED_ETCD's value for the store inside this process."""

MIN_TTL_S = 2
"""etcd's own minimum follows from its election timeout."""

MAX_WORKERS = 200


@dataclass(frozen=True, slots=True)
class SeedConfig:
    """Everything that the environment says to a seed. Times in seconds, sizes in bytes."""

    cluster: str
    node_id: str
    host: str
    bind: str
    port: int
    http_port: int
    etcd: tuple[str, ...]
    """Endpoints; empty: the embedded store."""
    etcd_ca: Path | None
    etcd_cert: Path | None
    etcd_key: Path | None
    lease_ttl_s: int
    evidence: Evidence
    handoff_timeout_s: float
    rebalance: RebalanceSettings
    shards: int
    min_workers: int
    sharding_role: str
    sharding_roles: Mapping[str, str]
    """Types whose shards are hosted under another role."""
    drain_timeout_s: float
    default_deadline_s: float
    max_message_bytes: int
    parking: ParkingLimits
    max_connection_age_s: float
    orders: OrderLimits
    events: EventLimits
    tls: TlsFiles | None
    authority: str
    policy: Path | None
    log_level: str
    telemetry: TelemetrySettings

    def role_of(self, type_: str) -> str:
        """The role whose workers host this type."""
        return self.sharding_roles.get(type_, self.sharding_role)

    @property
    def coordinator(self) -> CoordinatorSettings:
        """What of it the coordinator decides by."""
        return CoordinatorSettings(
            ttl_ns=self.lease_ttl_s * 1_000_000_000,
            min_workers=self.min_workers,
            evidence=self.evidence,
            handoff_timeout_ms=int(self.handoff_timeout_s * 1000),
            rebalance=self.rebalance,
        )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> SeedConfig:
        """Raises `SettingsError`, with one line for the first wrong setting."""
        reader = Reader(environ, role="seed")
        role, roles = _sharding_roles(reader)
        reader.boolean("SEEDBED_TRUST_XFCC")
        return cls(
            cluster=reader.name("SEEDBED_CLUSTER"),
            node_id=reader.node_id(),
            host=reader.text("SEEDBED_HOST"),
            bind=reader.text("SEEDBED_BIND"),
            port=reader.integer("SEEDBED_PORT", minimum=0, maximum=65535),
            http_port=reader.integer("SEEDBED_HTTP_PORT", minimum=0, maximum=65535),
            etcd=_etcd(reader),
            etcd_ca=reader.file("SEEDBED_ETCD_CA"),
            etcd_cert=reader.file("SEEDBED_ETCD_CERT"),
            etcd_key=reader.file("SEEDBED_ETCD_KEY"),
            lease_ttl_s=reader.integer("SEEDBED_LEASE_TTL_S", minimum=MIN_TTL_S, maximum=3600),
            evidence=_evidence(reader),
            handoff_timeout_s=reader.seconds(
                "SEEDBED_HANDOFF_TIMEOUT_S", minimum=0.1, maximum=3600
            ),
            rebalance=_rebalance(reader),
            shards=reader.integer("SEEDBED_SHARDS", minimum=1, maximum=MAX_SHARDS),
            min_workers=reader.integer("SEEDBED_MIN_WORKERS", minimum=1, maximum=MAX_WORKERS),
            sharding_role=role,
            sharding_roles=roles,
            drain_timeout_s=reader.seconds("SEEDBED_DRAIN_TIMEOUT_S", maximum=20),
            default_deadline_s=reader.seconds("SEEDBED_DEFAULT_DEADLINE_S", minimum=0.001),
            max_message_bytes=max_message_bytes(reader),
            parking=parking_limits(reader, minimum=0),
            max_connection_age_s=reader.seconds("SEEDBED_MAX_CONNECTION_AGE_S", minimum=1),
            orders=OrderLimits(
                pins=reader.integer("SEEDBED_ORDERED_PINS", minimum=0),
                nodes=reader.integer("SEEDBED_ORDERED_NODES", minimum=1),
            ),
            events=EventLimits(
                kept=reader.integer("SEEDBED_EVENTS_KEPT", minimum=1),
                readers=reader.integer("SEEDBED_EVENT_READERS", minimum=1),
            ),
            tls=tls_files(reader),
            authority=reader.text("SEEDBED_AUTHORITY"),
            policy=reader.file("SEEDBED_POLICY"),
            log_level=reader.choice("SEEDBED_LOG", logs.LEVELS),
            telemetry=TelemetrySettings.read(environ),
        )


def _etcd(reader: Reader) -> tuple[str, ...]:
    if reader.text("SEEDBED_ETCD", required=True) == MEMORY:
        return ()
    urls = reader.urls("SEEDBED_ETCD", ("http", "https"), required=True)
    if len({url.partition(":")[0] for url in urls}) > 1:
        raise bad_setting("SEEDBED_ETCD", ",".join(urls), "all of http or all of https")
    if urls[0].startswith("https:"):
        _both(reader, "SEEDBED_ETCD_CERT", "SEEDBED_ETCD_KEY")
        if reader.file("SEEDBED_ETCD_CA") is None:
            raise SettingsError("SEEDBED_ETCD_CA: not set, expected a file, because etcd is https")
    return urls


def _evidence(reader: Reader) -> Evidence:
    match reader.choice("SEEDBED_EVIDENCE", ("durable", "all", "off")):
        case "all":
            return "all"
        case "off":
            return "off"
        case _:
            return "durable"


def _rebalance(reader: Reader) -> RebalanceSettings:
    interval_s = reader.seconds("SEEDBED_REBALANCE_INTERVAL_S", minimum=0.1)
    threshold = reader.number("SEEDBED_REBALANCE_THRESHOLD", minimum=0)
    max_moves = reader.integer("SEEDBED_REBALANCE_MAX_MOVES", minimum=1)
    cooling_s = reader.seconds("SEEDBED_REBALANCE_COOLING_S")
    return RebalanceSettings(
        interval_ns=int(interval_s * 1e9),
        threshold=threshold,
        max_moves=max_moves,
        cooling_ns=int(cooling_s * 1e9),
    )


def _sharding_roles(reader: Reader) -> tuple[str, dict[str, str]]:
    """`sharding,thermostat=iot`: the role of all types, then those of single ones."""
    name = "SEEDBED_SHARDING_ROLE"
    role, roles = "", dict[str, str]()
    for word in reader.words(name):
        type_, equals, of_type = word.rpartition("=")
        parts = (type_, of_type) if equals else (of_type,)
        if not all(NAME.fullmatch(part) for part in parts) or (not equals and role):
            raise bad_setting(name, word, f"one role, then type=role, each {NAME_RULE}")
        if equals:
            roles[type_] = of_type
        else:
            role = of_type
    return role or "sharding", roles


def _both(reader: Reader, one: str, other: str) -> None:
    for name, partner in ((one, other), (other, one)):
        if reader.file(name) is None and reader.file(partner) is not None:
            raise SettingsError(f"{name}: not set, expected a file, because {partner} is set")
