"""What the loader found out about an entity class: all that a host needs to run it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from seedbed.adapters import EntityContext
from seedbed.contract import MethodContract, TypeContract
from seedbed.entity import AnyEntity, Factory
from seedbed_worker.stored_types import StoredTypes

UnaryFunction: TypeAlias = Callable[[AnyEntity, Message, EntityContext], Awaitable[object]]
StreamFunction: TypeAlias = Callable[[AnyEntity, Message, EntityContext], AsyncGenerator[object]]


@dataclass(frozen=True, slots=True)
class HostedMethod:
    """One RPC method. `unary` or `stream` is there, or neither: then it is not implemented."""

    contract: MethodContract
    request: type[Message]
    response: type[Message]
    unary: UnaryFunction | None = None
    stream: StreamFunction | None = None
    exclusive: bool = field(init=False)
    """Its turns may change things."""
    parse: Callable[[bytes], Message] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exclusive", not self.contract.read_only)
        object.__setattr__(self, "parse", self.request.FromString)


@dataclass(frozen=True, slots=True)
class HostedClass:
    """An entity class and its service."""

    name: str
    """`module:Class`, for people."""
    cls: type[AnyEntity]
    contract: TypeContract
    service: ServiceDescriptor
    factory: Factory
    """The class itself, or a `functools.partial` of it."""
    state: Callable[[], object]
    events: tuple[type, ...]
    """Their classes; empty for one that saves its state."""
    stored: StoredTypes | None
    """How its states and events are written and read; None for one that is not durable."""
    methods: Mapping[str, HostedMethod]
    """By path."""
    has_activated: bool
    """Overrides the hook; one that does not need not be called."""
    has_deactivating: bool
    durable: bool
    """What it keeps is in the journal."""
