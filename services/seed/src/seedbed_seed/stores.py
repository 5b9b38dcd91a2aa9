"""The store that a seed's settings name."""

from __future__ import annotations

import logging
from typing import TypeAlias

from seedbed_seed.config import SeedConfig
from seedbed_seed.etcd.adapter import EtcdStore
from seedbed_seed.etcd.channels import TlsFiles
from seedbed_seed.memory_store import MemoryStore

log = logging.getLogger(__name__)

AnyStore: TypeAlias = EtcdStore | MemoryStore


def open_store(config: SeedConfig) -> AnyStore:
    """To be used as a scope."""
    if not config.etcd:
        log.warning("embedded store", extra={"note": "one seed; nothing is kept after it ends"})
        return MemoryStore()
    tls: TlsFiles | None = None
    if config.etcd_ca is not None:
        cert, key = config.etcd_cert, config.etcd_key
        tls = TlsFiles(str(config.etcd_ca), str(cert) if cert else None, str(key) if key else None)
    return EtcdStore(config.etcd, tls)
