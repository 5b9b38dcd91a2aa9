"""All settings of a worker, read once; each wrong one stops the start with one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seedbed.errors import SettingsError
from seedbed.parking import ParkingLimits
from seedbed.service import logs
from seedbed.service.telemetry import TelemetrySettings
from seedbed.settings import Reader, Secret, bad_setting
from seedbed.shared_settings import max_message_bytes, parking_limits, tls_files
from seedbed.tls import TlsFiles
from seedbed_worker.runtime import HostLimits

JOURNAL_FORMS = "sqlite:///FILE, postgresql://… or none"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the environment says. Units are in the names; reasons in `docs/settings.md`."""

    cluster: str
    node_id: str
    host: str
    bind: str
    port: int
    http_port: int
    seeds: tuple[str, ...]
    roles: tuple[str, ...]
    zone: str
    app_version: str
    app_revision: str
    entities: tuple[str, ...]
    resources_timeout_s: float
    handoff_timeout_s: float
    drain_timeout_s: float
    default_deadline_s: float
    repeat_window_s: float
    repeat_bytes: int
    max_message_bytes: int
    mailbox_calls: int
    type_calls: int
    worker_calls: int
    onward_calls: int
    reminders_at_once: int
    reminders_in_memory: int
    reminder_window_s: float
    reminder_timeout_s: float
    parking: ParkingLimits
    idle_timeout_s: float
    max_entities: int
    loop_stall_limit_s: float
    loop_warn_s: float
    journal: Secret
    journal_keep: int | None
    """Events kept behind a snapshot; None: all."""
    journal_require_sync: bool
    trust_xfcc: bool
    seed_principals: tuple[str, ...]
    policy: Path | None
    tls: TlsFiles | None
    authority: str
    log_level: str
    telemetry: TelemetrySettings

    def not_built(self) -> list[tuple[str, str]]:
        """Settings that ask for what this release does not do, with the reason to warn of."""
        found: list[tuple[str, str]] = []
        if self.policy is not None:
            found.append(("SEEDBED_POLICY", "policy is not built yet: nothing is denied"))
        return found

    def host_limits(self) -> HostLimits:
        """What bounds the host."""
        return HostLimits(
            mailbox_calls=self.mailbox_calls,
            type_calls=self.type_calls,
            worker_calls=self.worker_calls,
            onward_calls=self.onward_calls,
            max_entities=self.max_entities,
            idle_timeout_s=self.idle_timeout_s,
            handoff_timeout_s=self.handoff_timeout_s,
            max_message_bytes=self.max_message_bytes,
            repeat_window_s=self.repeat_window_s,
            repeat_bytes=self.repeat_bytes,
            reminders_at_once=self.reminders_at_once,
            reminders_in_memory=self.reminders_in_memory,
            reminder_window_s=self.reminder_window_s,
            reminder_timeout_s=self.reminder_timeout_s,
        )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> WorkerConfig:
        """Raises `SettingsError`, with one line for the first wrong setting."""
        reader = Reader(environ, role="worker")
        return cls(
            cluster=reader.name("SEEDBED_CLUSTER"),
            node_id=reader.node_id(),
            host=reader.text("SEEDBED_HOST"),
            bind=reader.text("SEEDBED_BIND"),
            port=reader.integer("SEEDBED_PORT", minimum=0, maximum=65535),
            http_port=reader.integer("SEEDBED_HTTP_PORT", minimum=0, maximum=65535),
            seeds=_required(reader.addresses("SEEDBED_SEEDS", required=True), "SEEDBED_SEEDS"),
            roles=reader.names("SEEDBED_ROLES"),
            zone=reader.text("SEEDBED_ZONE"),
            app_version=reader.text("SEEDBED_APP_VERSION"),
            app_revision=_app_revision(reader),
            entities=_required(reader.words("SEEDBED_ENTITIES", required=True), "SEEDBED_ENTITIES"),
            resources_timeout_s=reader.seconds("SEEDBED_RESOURCES_TIMEOUT_S", minimum=0.001),
            handoff_timeout_s=reader.seconds("SEEDBED_HANDOFF_TIMEOUT_S"),
            drain_timeout_s=reader.seconds("SEEDBED_DRAIN_TIMEOUT_S", maximum=20.0),
            default_deadline_s=reader.seconds("SEEDBED_DEFAULT_DEADLINE_S", minimum=0.001),
            repeat_window_s=reader.seconds("SEEDBED_REPEAT_WINDOW_S", minimum=1.0),
            repeat_bytes=reader.integer("SEEDBED_REPEAT_BYTES", minimum=0),
            max_message_bytes=max_message_bytes(reader),
            mailbox_calls=reader.integer("SEEDBED_MAILBOX_CALLS", minimum=1),
            type_calls=reader.integer("SEEDBED_TYPE_CALLS", minimum=1),
            worker_calls=reader.integer("SEEDBED_WORKER_CALLS", minimum=1),
            onward_calls=reader.integer("SEEDBED_ONWARD_CALLS", minimum=1),
            reminders_at_once=reader.integer("SEEDBED_REMINDERS_AT_ONCE", minimum=1),
            reminders_in_memory=reader.integer("SEEDBED_REMINDERS_IN_MEMORY", minimum=1),
            reminder_window_s=reader.seconds("SEEDBED_REMINDER_WINDOW_S", minimum=1.0),
            reminder_timeout_s=reader.seconds("SEEDBED_REMINDER_TIMEOUT_S", minimum=0.001),
            parking=parking_limits(reader, minimum=1),
            idle_timeout_s=reader.seconds("SEEDBED_IDLE_TIMEOUT_S"),
            max_entities=reader.integer("SEEDBED_MAX_ENTITIES", minimum=1),
            loop_stall_limit_s=reader.seconds("SEEDBED_LOOP_STALL_LIMIT_S", minimum=1.0),
            loop_warn_s=reader.seconds("SEEDBED_LOOP_WARN_S", minimum=0.01),
            journal=journal_address(reader),
            journal_keep=_journal_keep(reader),
            journal_require_sync=reader.boolean("SEEDBED_JOURNAL_REQUIRE_SYNC"),
            trust_xfcc=reader.boolean("SEEDBED_TRUST_XFCC"),
            seed_principals=reader.words("SEEDBED_SEED_PRINCIPALS"),
            policy=reader.file("SEEDBED_POLICY"),
            tls=tls_files(reader),
            authority=reader.text("SEEDBED_AUTHORITY"),
            log_level=reader.choice("SEEDBED_LOG", logs.LEVELS),
            telemetry=TelemetrySettings.read(environ),
        )


def _required(words: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not words:  # commas alone
        raise SettingsError(f"{name}: found nothing, expected at least one")
    return words


def _app_revision(reader: Reader) -> str:
    text = reader.text("SEEDBED_APP_REVISION")
    if text and not text.isdecimal():
        raise bad_setting("SEEDBED_APP_REVISION", text, "a whole number, or nothing")
    return text


def journal_address(reader: Reader) -> Secret:
    """SEEDBED_JOURNAL, in one of its forms. Raises `SettingsError`."""
    secret = reader.secret("SEEDBED_JOURNAL")
    text = secret.read()
    good = text == "none" or text.startswith(("postgresql://", "postgres://"))
    if not good and not (text.startswith("sqlite:///") and len(text) > len("sqlite:///")):
        # The value may hold a password: only its scheme is shown.
        scheme = text.partition("://")[0] if "://" in text else "a text without a scheme"
        raise SettingsError(f"SEEDBED_JOURNAL: found {scheme!r}, expected {JOURNAL_FORMS}")
    return secret


def _journal_keep(reader: Reader) -> int | None:
    if reader.text("SEEDBED_JOURNAL_KEEP").lower() == "all":
        return None
    return reader.integer("SEEDBED_JOURNAL_KEEP", minimum=0)
