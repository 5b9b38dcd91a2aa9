"""The entity API without a host: what it refuses, and what each refusal says."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Never, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

import seedbed
from seedbed import Abort, Entity
from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall
from seedbed.turn import CURRENT, Turn


class Cart(Entity[dict[str, int]], durable=False):
    async def noop(self, reminder: seedbed.Reminder) -> None:
        """A reminder's method."""


class Child(Cart, remember=True): ...


class Grown(Child, durable=True): ...


def test_class_keywords_are_inherited() -> None:
    assert (Entity.seedbed_durable, Entity.seedbed_remember) == (True, False)
    assert (Cart.seedbed_durable, Cart.seedbed_remember) == (False, False)
    assert (Child.seedbed_durable, Child.seedbed_remember) == (False, True)
    assert (Grown.seedbed_durable, Grown.seedbed_remember) == (True, True)


@pytest.mark.parametrize("name", ["key", "state", "seq", "exists"])
def test_what_is_there_from_activated_on_is_not_there_before(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"self\.{name} is there from activated\(\) on"):
        getattr(Cart(), name)


NO_EVENT: Never = cast("Never", None)
"""Cart has no events, and what is called with it must not look."""

IN_TURNS: dict[str, Callable[[Cart], object]] = {
    "turn": lambda cart: cart.turn,
    "save": lambda cart: cart.save(),
    "emit": lambda cart: cart.emit(NO_EVENT),
    "delete": lambda cart: cart.delete(),
    "outside": lambda cart: cart.outside(),
    "passivate": lambda cart: cart.passivate(),
    "changes": lambda cart: cart.changes(),
}


@pytest.mark.parametrize("name", IN_TURNS)
def test_outside_a_turn_it_says_what_to_do(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"no turn runs in this task.*use activated\(\)"):
        IN_TURNS[name](Cart())


class Open:
    """A turn of another entity."""

    entity: object = object()
    open = True
    read_only = False


def test_another_entitys_turn_is_not_this_ones() -> None:
    token = CURRENT.set(Open())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    try:
        with pytest.raises(RuntimeError, match="another entity's"):
            Cart().save()
    finally:
        CURRENT.reset(token)


def test_an_event_needs_an_apply() -> None:
    with pytest.raises(NotImplementedError, match=r"Cart has events, and no apply\(\)"):
        Cart().apply(NO_EVENT)


def test_nothing_is_decoded_before_a_worker_has_seen_the_class() -> None:
    with pytest.raises(RuntimeError, match="no worker has loaded Cart"):
        Cart.decode("", b"")


def test_users_may_use_ordinary_attribute_names() -> None:
    class Own(Cart):
        def __init__(self) -> None:
            self._state = self._key = self._turn = 1

    own = Own()
    own.state = {"a": 1}
    assert (own._state, own.state) == (1, {"a": 1})  # pyright: ignore[reportPrivateUsage]


def test_the_signatures_are_those_of_the_design() -> None:
    assert str(inspect.signature(Entity.changes)).startswith("(self, after: 'int' = -1)")
    remind = inspect.signature(Entity.remind).parameters
    assert list(remind) == ["self", "method", "after", "every", "name", "durable"]


def test_a_turn_is_frozen_and_confirms_only_in_a_worker() -> None:
    turn = Turn("t", 1, 2, "w", "", "", None, datetime.now(UTC), read_only=True)
    with pytest.raises(AttributeError):
        turn.epoch = 3  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(RuntimeError, match="worker"):
        turn.confirm().send(None)


# Abort and the context.


def test_an_abort_carries_code_text_and_details() -> None:
    abort = Abort(grpc.StatusCode.NOT_FOUND, "no such item", ErrorInfo(reason="GONE"))
    assert str(abort) == "NOT_FOUND: no such item"
    status = Status.FromString(abort.status())
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message, info.reason) == (5, "no such item", "GONE")
    assert Abort(grpc.StatusCode.NOT_FOUND, "no such item").status() == b""


def test_ok_is_no_abort() -> None:
    with pytest.raises(ValueError, match="return a reply"):
        Abort(grpc.StatusCode.OK, "")


class StandingClock:
    def now_ns(self) -> int:
        return 1_000_000_000

    def wall_ms(self) -> int:
        return 0


def context(deadline_ns: int | None = 3_000_000_000) -> EntityContext:
    call = EntityCall("/p.S/M", "t", "k", 0, b"", deadline_ns, metadata=(("a", "1"), ("a", "2")))
    return EntityContext(call, StandingClock())


def test_the_context_is_a_grpc_servicer_context() -> None:
    assert isinstance(context(), grpc.aio.ServicerContext)
    assert list(context().invocation_metadata()) == [("a", "1"), ("a", "2")]


def test_time_remaining_is_that_of_the_call() -> None:
    assert context().time_remaining() == 2.0
    assert context(500).time_remaining() == 0.0
    assert context(None).time_remaining() is None


INSTEAD: dict[str, tuple[str, Callable[[EntityContext], object]]] = {
    "peer": ("self.turn.caller", lambda c: c.peer()),
    "peer_identities": ("self.turn.caller", lambda c: c.peer_identities()),
    "peer_identity_key": ("self.turn.caller", lambda c: c.peer_identity_key()),
    "auth_context": ("self.turn.caller", lambda c: c.auth_context()),
    "set_compression": ("on the client", lambda c: c.set_compression(grpc.Compression.Gzip)),
    "disable_next": ("on the client", lambda c: c.disable_next_message_compression()),
    "read": ("one request", lambda c: c.read().send(None)),
    "write": ("`yield`", lambda c: c.write(b"").send(None)),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_makes_no_sense_says_what_to_use(name: str) -> None:
    instead, use = INSTEAD[name]
    with pytest.raises(NotImplementedError, match=instead):
        use(context())


async def test_initial_metadata_goes_once() -> None:
    one = context()
    await one.send_initial_metadata((("first", "1"),))
    with pytest.raises(grpc.aio.UsageError):
        await one.send_initial_metadata(())
    assert one.initial == (("first", "1"),)


async def test_abort_with_status_keeps_its_details() -> None:
    class Rich(grpc.Status):
        code = grpc.StatusCode.ABORTED
        details = "busy"
        trailing_metadata = (("grpc-status-details-bin", b"status"), ("x", "y"))

    one = context()
    with pytest.raises(grpc.aio.AbortError):
        await one.abort_with_status(Rich())
    assert one.aborted is not None
    assert (one.aborted.code, one.aborted.message) == (10, "busy")
    assert (one.aborted.details, one.aborted.trailing) == (b"status", (("x", "y"),))


def test_metadata_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="-bin"):
        context().set_trailing_metadata((("blob", b"1"),))


# The package.


def test_every_public_name_is_there() -> None:
    for name in seedbed.__all__:
        assert getattr(seedbed, name) is not None
    assert set(seedbed.__all__) <= set(dir(seedbed))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = getattr(seedbed, "Nothing")  # noqa: B009 - a checker would refuse the plain way


def test_importing_the_package_loads_no_transport() -> None:
    code = "import seedbed, sys; seedbed.Turn; assert 'grpc' not in sys.modules"
    source = Path(seedbed.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})
