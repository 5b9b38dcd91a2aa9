"""Sharded, stateful entities over gRPC: what entity authors and callers import.

Names load when they are first used, so that pure parts can be imported without gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What a type checker sees; at run time `__getattr__` does it.
    from seedbed.abort import Abort
    from seedbed.adapters import ServicerContext
    from seedbed.client import Client
    from seedbed.entity import Entity, Factory
    from seedbed.helpers import join_key, once, service_config, split_key
    from seedbed.status import reason
    from seedbed.turn import Reminder, Turn

__all__ = [
    "Abort",
    "Client",
    "Entity",
    "Factory",
    "Reminder",
    "ServicerContext",
    "Turn",
    "join_key",
    "once",
    "reason",
    "service_config",
    "split_key",
]

_MODULES = {
    "Abort": "abort",
    "Client": "client",
    "Entity": "entity",
    "Factory": "entity",
    "Reminder": "turn",
    "ServicerContext": "adapters",
    "Turn": "turn",
    "join_key": "helpers",
    "once": "helpers",
    "reason": "status",
    "service_config": "helpers",
    "split_key": "helpers",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
