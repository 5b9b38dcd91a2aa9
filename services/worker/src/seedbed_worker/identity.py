"""What a worker's Hello says of it: who it is, where, and what it hosts."""

from __future__ import annotations

from seedbed.descriptors import descriptor_set
from seedbed_worker.config import WorkerConfig
from seedbed_worker.hosted import HostedClass
from seedbed_worker.session_wire import DeclaredType, Identity


def identity(config: WorkerConfig, port: int, hosted: list[HostedClass]) -> Identity:
    """As the settings and the user's classes say; `port` is the one that it listens on."""
    return Identity(
        cluster=config.cluster,
        node_id=config.node_id,
        host=config.host,
        port=port,
        roles=config.roles,
        zone=config.zone,
        app_version=config.app_version,
        app_revision=config.app_revision,
        types=tuple(
            DeclaredType(
                one.contract.type,
                one.contract.service,
                one.contract.shard_count,
                one.durable,
                descriptor_set(one.service),
            )
            for one in hosted
        ),
    )
