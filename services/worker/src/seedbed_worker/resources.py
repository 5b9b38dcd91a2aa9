"""The async context managers that `SEEDBED_ENTITIES` names, around a worker's life.

Connection pools and clients of entities live there. All of it happens in one task, since what they
enter (task groups, time-outs) must be left by the task that entered it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from seedbed.entity import Factory
from seedbed.errors import SettingsError
from seedbed_worker.entity_names import SETTING, Function, class_of, find
from seedbed_worker.places import in_words, raised_at

log = logging.getLogger(__name__)

LEAVE_S = 2.0
"""What leaving may take in all: it comes after the drain, within the time a process has to stop."""

_FORM = "a function made by @contextlib.asynccontextmanager that yields a list of factories"


@asynccontextmanager
async def entered(
    names: Iterable[str], *, limit_s: float, stop: asyncio.Event
) -> AsyncGenerator[list[Factory]]:
    """Give the factories of all that is named; leave at the end what was entered, last first.

    Entering a function may take `limit_s`. If `stop` is set meanwhile, what there is by then is
    given. Raises `SettingsError` for a name that leads nowhere and for a function that fails;
    what fails in leaving is logged.
    """
    factories: list[Factory] = []
    opened: list[tuple[str, AbstractAsyncContextManager[object]]] = []
    try:
        for found in [find(name) for name in names]:
            if not isinstance(found, Function):
                factories += found
                continue
            manager = _manager(found)
            given = await _enter(found, manager, limit_s, stop)
            if not given:
                break
            opened.append((found.name, manager))
            factories += _factories(found.name, given[0])
        yield factories
    finally:
        leave_by = asyncio.get_running_loop().time() + LEAVE_S
        for name, manager in reversed(opened):
            await _leave(name, manager, leave_by)


async def _enter(
    function: Function,
    manager: AbstractAsyncContextManager[object],
    limit_s: float,
    stop: asyncio.Event,
) -> list[object]:
    """What the manager gives, in a list; an empty one if it was given up for `stop`."""
    failure: Exception | None = None
    given: list[object] = []
    limit = asyncio.timeout(limit_s)
    try:
        async with limit, asyncio.TaskGroup() as tasks:
            hurry = tasks.create_task(_hurry(stop, limit))
            try:
                given.append(await manager.__aenter__())
            except Exception as error:  # whatever user code raises; no group around it
                failure = error
            hurry.cancel()
    except TimeoutError:
        if not stop.is_set():
            raise SettingsError(
                f"{SETTING}: {function.name} was not entered within {limit_s:g} s"
                " (SEEDBED_RESOURCES_TIMEOUT_S)"
            ) from None
    if failure is not None:
        log.debug("resources not entered", extra={"function": function.name}, exc_info=failure)
        raise SettingsError(
            f"{SETTING}: entering {function.name} raises {in_words(failure)}{raised_at(failure)}"
        ) from failure
    return given


async def _hurry(stop: asyncio.Event, limit: asyncio.Timeout) -> None:
    await stop.wait()
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


async def _leave(name: str, manager: AbstractAsyncContextManager[object], leave_by: float) -> None:
    # The worker's own failure is not theirs to see, nor to swallow.
    try:
        async with asyncio.timeout_at(leave_by):
            await manager.__aexit__(None, None, None)
    except Exception as error:
        log.error("resources not left", extra={"function": name}, exc_info=error)


def _manager(function: Function) -> AbstractAsyncContextManager[object]:
    make = function.make
    if inspect.iscoroutinefunction(make) or inspect.isasyncgenfunction(make):
        raise SettingsError(f"{SETTING}: {function.name} is not decorated, expected {_FORM}")
    try:
        made = make()
    except Exception as error:
        raise SettingsError(
            f"{SETTING}: calling {function.name} raises {in_words(error)}, expected {_FORM}"
        ) from error
    if not isinstance(made, AbstractAsyncContextManager):
        raise SettingsError(
            f"{SETTING}: {function.name} gives {type(made).__name__}, expected {_FORM}"
        )
    return cast("AbstractAsyncContextManager[object]", made)


def _factories(name: str, given: object) -> list[Factory]:
    expected = "expected a list of factories, each an entity class or functools.partial(Class, …)"
    if not isinstance(given, Sequence):
        raise SettingsError(f"{SETTING}: {name} yields {type(given).__name__}, {expected}")
    factories = cast("Sequence[object]", given)
    if not factories:
        raise SettingsError(f"{SETTING}: {name} yields nothing, {expected}")
    for factory in factories:
        if class_of(factory) is None:
            raise SettingsError(f"{SETTING}: {name} yields {_shown(factory)}, {expected}")
    return [cast("Factory", factory) for factory in factories]


def _shown(factory: object) -> str:
    name: object = getattr(factory, "__qualname__", None)
    return name if isinstance(name, str) else f"an instance of {type(factory).__qualname__}"
