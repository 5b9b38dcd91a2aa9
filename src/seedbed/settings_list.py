"""Every setting of Seedbed with its default, its unit and what it is for: docs/settings.md as data.

`seedbed.settings.Reader` reads no variable that is not listed here, and a test compares the page.
"""

from __future__ import annotations

from collections.abc import Mapping

from seedbed.setting import Setting

_LIST = (
    Setting("SEEDBED_CLUSTER", "default", "name", "all", "the cluster; prefix of all keys in etcd"),
    Setting(
        "SEEDBED_NODE_ID",
        "",
        "name",
        "all",
        "name of this node, unique per role; by default the host name in lower case, other"
        " characters as `-`, cut at 63",
    ),
    Setting("SEEDBED_HOST", "127.0.0.1", "address", "all", "address that others dial"),
    Setting("SEEDBED_BIND", "127.0.0.1", "address", "all", "address that both ports listen on"),
    Setting(
        "SEEDBED_PORT",
        "",
        "port",
        "all",
        "gRPC; 0: any free one, named in the READY line",
        {"seed": "4684", "worker": "4685"},
    ),
    Setting(
        "SEEDBED_HTTP_PORT",
        "",
        "port",
        "all",
        "health and metrics; 0: any free one, named in the READY line",
        {"seed": "6684", "worker": "6685"},
    ),
    Setting(
        "SEEDBED_ETCD",
        "http://127.0.0.1:2379",
        "URLs",
        "seed, up",
        "etcd's endpoints, separated by commas; `memory`: a store inside the one seed, which keeps"
        " nothing",
    ),
    Setting("SEEDBED_ETCD_CA", "", "file", "seed", "PEM of the authority that etcd's https shows"),
    Setting("SEEDBED_ETCD_CERT", "", "file", "seed", "PEM with which the seed shows who it is"),
    Setting("SEEDBED_ETCD_KEY", "", "file", "seed", "private key of SEEDBED_ETCD_CERT"),
    Setting(
        "SEEDBED_SEEDS",
        "127.0.0.1:4684",
        "addresses",
        "worker, client",
        "`host:port`, separated by commas, or one `dns:///name:port`",
    ),
    Setting("SEEDBED_ROLES", "sharding", "names", "worker", "roles of the worker"),
    Setting(
        "SEEDBED_SHARDING_ROLE",
        "sharding",
        "names",
        "seed",
        "role that hosts shards, then `type=role` for types that differ",
    ),
    Setting("SEEDBED_APP_VERSION", "0.0.0", "text", "worker", "version of the user's program"),
    Setting(
        "SEEDBED_APP_REVISION",
        "",
        "number",
        "worker",
        "orders roll-outs and rollbacks; used only while every worker of a type sets it",
    ),
    Setting("SEEDBED_ZONE", "", "text", "worker", "where the worker runs"),
    Setting(
        "SEEDBED_ENTITIES",
        "",
        "modules",
        "worker, up",
        "entity classes: `module`, `module:Class` or `module:function`, separated by commas",
    ),
    Setting(
        "SEEDBED_RESOURCES_TIMEOUT_S",
        "30",
        "seconds",
        "worker",
        "how long each `module:function` of SEEDBED_ENTITIES may take to give its factories",
    ),
    Setting(
        "SEEDBED_LEASE_TTL_S",
        "5",
        "seconds",
        "seed",
        "how long a worker that is not heard of keeps its shards; at least 2",
    ),
    Setting(
        "SEEDBED_EVIDENCE",
        "durable",
        "choice",
        "seed",
        "which types move at once when a worker is seen to be dead: `durable`, `all`, `off`",
    ),
    Setting("SEEDBED_SHARDS", "1024", "shards", "seed", "shards of a type that names no number"),
    Setting(
        "SEEDBED_MIN_WORKERS",
        "1",
        "workers",
        "seed",
        "workers of the type's role that must be up before anything is placed from nothing: at"
        " first, and after none was left",
    ),
    Setting(
        "SEEDBED_HANDOFF_TIMEOUT_S",
        "10",
        "seconds",
        "seed, worker",
        "how long a shard's owner may finish what it has begun when the shard is handed off, and an"
        " entity may take to leave memory",
    ),
    Setting(
        "SEEDBED_DRAIN_TIMEOUT_S",
        "20",
        "seconds",
        "seed, worker",
        "how long a stopping worker goes on handing its shards off, at most 20; a stopping seed"
        " lets calls end for as long",
    ),
    Setting("SEEDBED_REBALANCE_INTERVAL_S", "10", "seconds", "seed", "time between two rebalances"),
    Setting(
        "SEEDBED_REBALANCE_THRESHOLD",
        "0.1",
        "ratio",
        "seed",
        "a rebalance starts when (max - min) / mean load is above it",
    ),
    Setting("SEEDBED_REBALANCE_MAX_MOVES", "64", "shards", "seed", "moves at one time"),
    Setting(
        "SEEDBED_REBALANCE_COOLING_S", "60", "seconds", "seed", "time between two moves of a shard"
    ),
    Setting(
        "SEEDBED_DEFAULT_DEADLINE_S",
        "10",
        "seconds",
        "seed, worker",
        "deadline of unary calls that bring none",
    ),
    Setting(
        "SEEDBED_REPEAT_WINDOW_S",
        "3600",
        "seconds",
        "worker",
        "how long the first outcome under a caller's idempotency key is remembered",
    ),
    Setting(
        "SEEDBED_REPEAT_BYTES",
        "67108864",
        "bytes",
        "worker",
        "outcomes of one type's calls in memory; others are read from the journal when needed",
    ),
    Setting(
        "SEEDBED_MAX_MESSAGE_BYTES",
        "4194304",
        "bytes",
        "seed, worker, client",
        "largest request and reply of an entity",
    ),
    Setting(
        "SEEDBED_PARKED_CALLS",
        "10000",
        "calls",
        "seed, worker, client",
        "calls that wait for a shard; on a worker those of its entities to others",
    ),
    Setting(
        "SEEDBED_PARKED_BYTES",
        "67108864",
        "bytes",
        "seed, worker, client",
        "requests of those calls",
    ),
    Setting(
        "SEEDBED_PARKED_CALLS_PER_SHARD",
        "1000",
        "calls",
        "seed, worker, client",
        "those of one shard",
    ),
    Setting(
        "SEEDBED_MAILBOX_CALLS", "1000", "calls", "worker", "queued or running calls of one entity"
    ),
    Setting("SEEDBED_TYPE_CALLS", "10000", "calls", "worker", "those of one entity type"),
    Setting("SEEDBED_WORKER_CALLS", "20000", "calls", "worker", "those of the whole worker"),
    Setting(
        "SEEDBED_ONWARD_CALLS",
        "256",
        "calls",
        "worker",
        "calls to other entities that one turn has under way; the others it makes wait in line",
    ),
    Setting(
        "SEEDBED_REMINDERS_AT_ONCE",
        "256",
        "turns",
        "worker",
        "turns of reminders that wait or run, of each entity one at most; others wait until these"
        " end",
    ),
    Setting(
        "SEEDBED_REMINDERS_IN_MEMORY",
        "10000",
        "reminders",
        "worker",
        "stored reminders that are in memory, since they are due soon; others are read when there"
        " is room",
    ),
    Setting(
        "SEEDBED_REMINDER_WINDOW_S",
        "60",
        "seconds",
        "worker",
        "how long before it is due a reminder is read from the journal; it looks twice as often",
    ),
    Setting(
        "SEEDBED_REMINDER_TIMEOUT_S",
        "300",
        "seconds",
        "worker",
        "how long a reminder's turn may take, its blocks of `outside()` included; then it comes"
        " again",
    ),
    Setting(
        "SEEDBED_MAX_CONNECTION_AGE_S",
        "300",
        "seconds",
        "seed",
        "client connections are asked to connect anew after it (10 % either way)",
    ),
    Setting(
        "SEEDBED_ORDERED_PINS",
        "10000",
        "shards",
        "seed",
        "shards that operators may have pinned; all orders together take 1 MB at most, since one"
        " value in etcd holds them",
    ),
    Setting(
        "SEEDBED_ORDERED_NODES",
        "1000",
        "nodes",
        "seed",
        "nodes that operators may have cordoned or draining, be they there or not",
    ),
    Setting(
        "SEEDBED_EVENTS_KEPT",
        "1000",
        "events",
        "seed",
        "latest events that a seed keeps for readers; a slower reader is told how many it missed",
    ),
    Setting("SEEDBED_EVENT_READERS", "100", "readers", "seed", "open `WatchEvents` of one seed"),
    Setting("SEEDBED_TRUST_XFCC", "off", "boolean", "all", "believe a sidecar's word on who calls"),
    Setting("SEEDBED_SEED_PRINCIPALS", "", "names", "worker", "identities that seeds have"),
    Setting("SEEDBED_POLICY", "", "file", "seed, worker", "who may call what"),
    Setting("SEEDBED_TLS_CERT", "", "file", "all", "PEM of this process, for mutual TLS"),
    Setting("SEEDBED_TLS_KEY", "", "file", "all", "private key of SEEDBED_TLS_CERT"),
    Setting("SEEDBED_TLS_CA", "", "file", "all", "PEM of the authority that peers must show"),
    Setting(
        "SEEDBED_JOURNAL",
        "sqlite:///./seedbed.db",
        "URL",
        "worker",
        "where durable entities are kept: `sqlite:///FILE`, `postgresql://…`, `none`",
    ),
    Setting(
        "SEEDBED_JOURNAL_REQUIRE_SYNC",
        "off",
        "boolean",
        "worker",
        "refuse a PostgreSQL without synchronous replication",
    ),
    Setting(
        "SEEDBED_JOURNAL_KEEP",
        "all",
        "events",
        "worker",
        "events kept behind an entity's latest snapshot: `all` or a number",
    ),
    Setting(
        "SEEDBED_LOOP_STALL_LIMIT_S",
        "30",
        "seconds",
        "worker",
        "an event loop that stands still for longer loses its shards",
    ),
    Setting(
        "SEEDBED_LOOP_WARN_S",
        "0.25",
        "seconds",
        "worker",
        "a turn that blocks the event loop for longer is warned of, with its place",
    ),
    Setting(
        "SEEDBED_IDLE_TIMEOUT_S",
        "120",
        "seconds",
        "worker",
        "an entity without calls leaves memory after it",
    ),
    Setting(
        "SEEDBED_MAX_ENTITIES",
        "100000",
        "entities",
        "worker",
        "entities in memory; the least recently used leave first",
    ),
    Setting(
        "SEEDBED_AUTHORITY",
        "",
        "name",
        "all",
        "`:authority` of calls to a member's address (behind a mesh: the headless service's name)",
    ),
    Setting(
        "SEEDBED_LOG",
        "info",
        "choice",
        "all",
        "`debug`, `info`, `warning`, `error`; JSON lines when stderr is no terminal",
    ),
    Setting(
        "SEEDBED_ETCD_BIN",
        "",
        "file",
        "up",
        "the etcd program that `seedbed up` starts; else `etcd` on PATH, if 3.5.23 or newer"
        " (of 3.6: 3.6.5)",
    ),
)

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _LIST}
"""By name, in the order of the documentation."""

SECRETS = frozenset({"SEEDBED_JOURNAL"})
"""Settings whose value is never shown, and which may come from the file that NAME_FILE names."""
