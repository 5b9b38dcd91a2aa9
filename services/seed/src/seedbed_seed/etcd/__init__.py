"""The `Store` port on etcd's v3 API, over `grpc.aio`; the rules it keeps are in docs/adr."""

from seedbed_seed.etcd.adapter import EtcdStore
from seedbed_seed.etcd.channels import TlsFiles

__all__ = ["EtcdStore", "TlsFiles"]
