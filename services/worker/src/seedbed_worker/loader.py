"""Checks the user's entity classes, so that mistakes stop the start and not a call."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterable
from typing import cast

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from seedbed.contract import MethodContract
from seedbed.entity import AnyEntity, Entity, Factory
from seedbed.entity_contract import entity_contract
from seedbed.errors import ContractError, Reason
from seedbed_worker.entity_names import class_of, servicers
from seedbed_worker.event_types import event_classes, stored_types
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.places import attribute_place, function_place, place
from seedbed_worker.sharing import shared_attributes
from seedbed_worker.states import state_factory

log = logging.getLogger(__name__)


def load(factories: Iterable[Factory]) -> list[HostedClass]:
    """Check what makes the entities; a class that is given twice is taken once.

    Raises `ContractError` for a class that cannot be an entity, and for a type with two classes
    or two factories.
    """
    hosted: dict[str, HostedClass] = {}
    for factory in dict.fromkeys(factories):
        one = host_class(factory)
        other = hosted.setdefault(one.contract.type, one)
        if other is not one:
            twice = f"given by two factories (of {other.name}): a type has one factory"
            also = f"also {other.name}: a type is one class"
            raise ContractError(
                f"{place(one.cls)}: entity type {one.contract.type} is"
                f" {twice if other.cls is one.cls else also}"
            )
    return list(hosted.values())


def load_or_refuse(factories: Iterable[Factory]) -> tuple[list[HostedClass], str]:
    """The user's classes; if one cannot be an entity, none, and why.

    Such a worker stays up, not ready, as one that a seed refuses: whoever rolls it out sees why.
    """
    try:
        return load(factories), ""
    except ContractError as error:
        reason = Reason.INCOMPATIBLE.value
        log.error("worker refused", extra={"reason": reason, "refusal": str(error)})
        return [], f"{reason}: {error}"


def host_class(factory: Factory) -> HostedClass:
    """Check one entity class, given by itself or in a `functools.partial`.

    Raises `ContractError`.
    """
    cls = class_of(factory)
    if cls is None:
        raise ContractError(
            f"{factory!r} is no factory: give an entity class or functools.partial(Class, …)"
        )
    base, service = _service_of(cls)
    try:
        contract = entity_contract(service)
    except ContractError as error:
        raise ContractError(f"{place(cls)}: {error}", symbol=error.symbol) from error
    _check_arguments(factory, cls)
    _check_attributes(cls)
    state, events = state_factory(cls), event_classes(cls)
    stored = stored_types(cls, state, events) if cls.seedbed_durable else None
    cls.seedbed_read = stored.read if stored is not None else None
    return HostedClass(
        name=f"{cls.__module__}:{cls.__qualname__}",
        cls=cls,
        contract=contract,
        service=service,
        factory=factory,
        state=state,
        events=events,
        stored=stored,
        methods={
            contract.methods[method.name].path: _method(
                cls, base, method, contract.methods[method.name]
            )
            for method in service.methods
        },
        has_activated=cls.activated is not Entity.activated,
        has_deactivating=cls.deactivating is not Entity.deactivating,
        durable=cls.seedbed_durable,
    )


def _service_of(cls: type[AnyEntity]) -> tuple[type, ServiceDescriptor]:
    """Its generated servicer and the service that this serves."""
    found = servicers(cls)
    if len(found) != 1:
        names = ", ".join(base.__name__ for base in found) or "none"
        raise ContractError(
            f"{place(cls)}: it has {len(found)} generated servicers among its bases ({names}): an"
            " entity is one service, as in class Cart(Entity[CartState], pb_grpc.CartServicer)"
        )
    base = found[0]
    messages = importlib.import_module(base.__module__.removesuffix("_grpc"))
    file = cast("FileDescriptor", messages.DESCRIPTOR)
    service = file.services_by_name.get(base.__name__.removesuffix("Servicer"))
    if service is None:
        raise ContractError(
            f"{place(cls)}: {messages.__name__} knows no service for {base.__name__}: generate both"
            " modules from the same .proto"
        )
    return base, service


def _check_arguments(factory: Factory, cls: type[AnyEntity]) -> None:
    """Refuse a factory that could not make an instance."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        if factory is not cls:
            raise ContractError(
                f"{place(cls)}: its functools.partial does not fit: {error}"
            ) from error
        module, name = cls.__module__, cls.__qualname__
        raise ContractError(
            f"{place(cls)}: __init__ needs arguments ({error}): name a function that gives them,"
            f" SEEDBED_ENTITIES={module}:entities, made by @contextlib.asynccontextmanager, with"
            f" `yield [functools.partial({name}, …)]`"
        ) from error


def _check_attributes(cls: type[AnyEntity]) -> None:
    for base, name, value in shared_attributes(cls):
        kind = type(value).__name__
        raise ContractError(
            f"{attribute_place(base, name)}: {name} is one {kind} for all entities of the worker:"
            f" keep it in the state, or make it in __init__; if they shall share it, say so with"
            f" {name}: ClassVar[…]"
        )


def _method(
    cls: type[AnyEntity], base: type, method: MethodDescriptor, contract: MethodContract
) -> HostedMethod:
    name = method.name
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    function: object = getattr(cls, name, None)
    if function is None or function is getattr(base, name, None):
        log.warning("method not implemented", extra={"entity": cls.__qualname__, "method": name})
        return HostedMethod(contract, request, response)
    if method.server_streaming:
        if not inspect.isasyncgenfunction(function):
            raise ContractError(
                f"{_method_place(cls, function, name)} streams, so it must be an async generator:"
                " `async def` with `yield` (context.write does not exist here)"
            )
        return HostedMethod(contract, request, response, stream=function)
    if not inspect.iscoroutinefunction(function):
        raise ContractError(
            f"{_method_place(cls, function, name)} must be `async def`{_hint(function)}"
        )
    return HostedMethod(contract, request, response, unary=function)


def _method_place(cls: type[AnyEntity], function: object, name: str) -> str:
    where = function_place(function)
    return f"{where}: method {cls.__qualname__}.{name}" if where else f"{place(cls)}: method {name}"


def _hint(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return " without `yield`: it is not server-streaming in the .proto"
    return " (a decorator must give back a coroutine function)"
