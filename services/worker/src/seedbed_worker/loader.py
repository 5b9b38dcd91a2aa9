"""Finds the user's entity classes and checks them, so that mistakes stop the start and not a call.

`SEEDBED_ENTITIES` names modules (all entity classes that they define) and `module:Class`.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterable
from types import ModuleType
from typing import TypeGuard, cast

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from seedbed.contract import MethodContract, contract_of
from seedbed.entity import AnyEntity, Entity
from seedbed.errors import ContractError, SettingsError
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.states import state_factory

log = logging.getLogger(__name__)

_SETTING = "SEEDBED_ENTITIES"


def load(names: Iterable[str]) -> list[HostedClass]:
    """Load what the setting names.

    Raises `SettingsError` for what cannot be found or imported, `ContractError` for a class that
    cannot be an entity.
    """
    hosted: dict[str, HostedClass] = {}
    seen: set[type] = set()
    for name in names:
        for cls in _classes(name):
            if cls in seen:
                continue
            seen.add(cls)
            one = host_class(cls)
            other = hosted.setdefault(one.contract.type, one)
            if other is not one:
                raise ContractError(
                    f"{place(cls)}: entity type {one.contract.type} is also {other.name}: a type"
                    " is one class"
                )
    return list(hosted.values())


def host_class(cls: type[AnyEntity]) -> HostedClass:
    """Check one entity class; raises `ContractError`."""
    where = place(cls)
    base, service = _service_of(cls, where)
    try:
        contract = contract_of(service)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from error
    return HostedClass(
        name=f"{cls.__module__}:{cls.__qualname__}",
        contract=contract,
        service=service,
        factory=_factory(cls, where),
        state=state_factory(cls, where),
        methods={
            contract.methods[method.name].path: _method(
                cls, base, method, contract.methods[method.name]
            )
            for method in service.methods
        },
        has_activated=cls.activated is not Entity.activated,
        has_deactivating=cls.deactivating is not Entity.deactivating,
        declared_durable=cls.seedbed_durable,
    )


def place(cls: type) -> str:
    """`file:line: class Name`, as far as Python knows it."""
    try:
        file = inspect.getsourcefile(cls) or "?"
        return f"{file}:{inspect.getsourcelines(cls)[1]}: class {cls.__qualname__}"
    except (OSError, TypeError):
        return f"class {cls.__module__}:{cls.__qualname__}"


def _classes(name: str) -> list[type[AnyEntity]]:
    module_name, _, attribute = name.partition(":")
    module = _module(module_name)
    if not attribute:
        found = [
            value
            for value in vars(module).values()
            if _is_entity(value) and value.__module__ == module.__name__ and _servicers(value)
        ]
        if not found:
            raise SettingsError(
                f"{_SETTING}: module {module_name} defines no entity class, expected a class with"
                " the bases Entity and a generated ...Servicer"
            )
        return found
    found_there: object = getattr(module, attribute, None)
    if _is_entity(found_there):
        return [found_there]
    if inspect.isfunction(found_there):
        raise SettingsError(
            f"{_SETTING}: {name} is a function: factories with resources come with a later"
            " release, name the class"
        )
    what = "nothing" if found_there is None else type(found_there).__name__
    raise SettingsError(f"{_SETTING}: {name} is {what}, expected a class derived from Entity")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise SettingsError(
                f"{_SETTING}: no module {name!r}, expected one on PYTHONPATH or installed"
            ) from error
        raise SettingsError(f"{_SETTING}: module {name}: {error}") from error
    except Exception as error:  # whatever user code raises while it is imported
        log.debug("import failed", extra={"module_name": name}, exc_info=error)
        text = " ".join(str(error).split())
        raise SettingsError(
            f"{_SETTING}: importing {name} raises {type(error).__name__}: {text}"
        ) from error


def _is_entity(value: object) -> TypeGuard[type[AnyEntity]]:
    return isinstance(value, type) and issubclass(value, Entity) and value is not Entity


def _servicers(cls: type) -> list[type]:
    """The generated servicer classes among its bases."""
    return [
        base
        for base in cls.__mro__
        if base.__name__.endswith("Servicer") and base.__module__.endswith("_pb2_grpc")
    ]


def _service_of(cls: type[AnyEntity], where: str) -> tuple[type, ServiceDescriptor]:
    """Its generated servicer and the service that this serves."""
    servicers = _servicers(cls)
    if len(servicers) != 1:
        names = ", ".join(base.__name__ for base in servicers) or "none"
        raise ContractError(
            f"{where}: it has {len(servicers)} generated servicers among its bases ({names}): an"
            " entity is one service, as in class Cart(Entity[CartState], pb_grpc.CartServicer)"
        )
    base = servicers[0]
    messages = importlib.import_module(base.__module__.removesuffix("_grpc"))
    file = cast("FileDescriptor", messages.DESCRIPTOR)
    service = file.services_by_name.get(base.__name__.removesuffix("Servicer"))
    if service is None:
        raise ContractError(
            f"{where}: {messages.__name__} knows no service for {base.__name__}: generate both"
            " modules from the same .proto"
        )
    return base, service


def _factory(cls: type[AnyEntity], where: str) -> type[AnyEntity]:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise ContractError(
            f"{where}: __init__ needs arguments ({error}), and factories that give them come with"
            " a later release: give them defaults"
        ) from error
    return cls


def _method(
    cls: type[AnyEntity], base: type, method: MethodDescriptor, contract: MethodContract
) -> HostedMethod:
    name = method.name
    where = f"{place(cls)}: method {name}"
    if hasattr(Entity, name):
        raise ContractError(
            f"{where}: {name} is an attribute of Entity: give the RPC another name in the .proto"
        )
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    function: object = getattr(cls, name, None)
    if function is None or function is getattr(base, name, None):
        log.warning("method not implemented", extra={"entity": cls.__qualname__, "method": name})
        return HostedMethod(contract, request, response)
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is not None:
        where = f"{code.co_filename}:{code.co_firstlineno}: method {cls.__qualname__}.{name}"
    if method.server_streaming:
        if not inspect.isasyncgenfunction(function):
            raise ContractError(
                f"{where} streams, so it must be an async generator: `async def` with `yield`"
                " (context.write does not exist here)"
            )
        return HostedMethod(contract, request, response, stream=function)
    if not inspect.iscoroutinefunction(function):
        raise ContractError(f"{where} must be `async def`{_hint(function)}")
    return HostedMethod(contract, request, response, unary=function)


def _hint(function: object) -> str:
    if inspect.isasyncgenfunction(function):
        return " without `yield`: it is not server-streaming in the .proto"
    return " (a decorator must give back a coroutine function)"
