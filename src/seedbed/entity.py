"""The class that users derive their entities from.

An entity is the servicer that one would write for plain grpc.aio, with a key and a state. Nothing
here runs anything: hosts do, and reach it through `seedbed.turn`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, NoReturn, TypeAlias, cast

from typing_extensions import TypeVar

from seedbed.turn import CURRENT, Reminder, Turn, running, writing

if TYPE_CHECKING:
    import grpc.aio  # only named: this module must not load a transport

S = TypeVar("S", default=None)
E = TypeVar("E", default=Never)


class Entity(Generic[S, E]):
    """Base class of all entities: `class Cart(Entity[pb.CartState], pb_grpc.CartServicer)`.

    `S` is the type of the state (None: no state), `E` the union of its event classes. `durable`
    and `remember` are class keywords; both are inherited.
    """

    # A host's notes about an idle entity lie on the instance itself: a second object for each
    # would double the time of a full garbage collection (measured at 1 M entities).
    __slots__ = (
        "__state", "seedbed_kept", "seedbed_key", "seedbed_seq", "seedbed_shard", "seedbed_since",
    )  # fmt: skip

    seedbed_durable: ClassVar[bool] = True
    seedbed_read: ClassVar[Callable[[str, bytes], object] | None] = None
    """A loader's: reads what is stored of the class."""
    seedbed_remember: ClassVar[bool] = False
    seedbed_kept: int
    """What is kept of it: 0 for nothing, else a mark that only its host can read."""
    seedbed_key: str
    seedbed_seq: int
    seedbed_shard: object
    seedbed_since: int
    __state: S

    def __init_subclass__(
        cls, *, durable: bool | None = None, remember: bool | None = None, **kwargs: object
    ) -> None:
        super().__init_subclass__(**kwargs)
        if durable is not None:
            cls.seedbed_durable = durable
        if remember is not None:
            cls.seedbed_remember = remember

    @property
    def key(self) -> str:
        """Its key's text."""
        try:
            return self.seedbed_key
        except AttributeError:
            _not_yet("key")

    @property
    def state(self) -> S:
        """Its state; fresh from the zero-argument constructor of its type."""
        try:
            return self.__state
        except AttributeError:
            _not_yet("state")

    @state.setter
    def state(self, state: S) -> None:
        self.__state = state

    @property
    def seq(self) -> int:
        """Changes kept so far; no deletion lowers it. A volatile entity's begins anew with each
        life."""
        try:
            return self.seedbed_seq
        except AttributeError:
            _not_yet("seq")

    @property
    def turn(self) -> Turn:
        """The turn that runs in this task."""
        current = CURRENT.get()
        if current is None or not current.open or current.entity is not self:
            current = running(self, "self.turn")  # says what is wrong
        return current.present or current.turn()

    @property
    def exists(self) -> bool:
        """Whether it was saved, and not deleted since, by turns that are over."""
        try:
            return self.seedbed_kept != 0
        except AttributeError:
            _not_yet("exists")

    @property
    def channel(self) -> grpc.aio.Channel:
        """A channel to every entity of the cluster, for generated stubs."""
        current = CURRENT.get()
        if current is None or current.entity is not self:
            current = running(self, "self.channel")  # says what is wrong
        return current.channel

    async def activated(self) -> None:
        """Hook: runs as a turn after each load of the state. If it fails, nothing is kept."""

    async def deactivating(self) -> None:
        """Hook: runs as a turn before passivation and hand-off, not when the entity is lost."""

    def save(self) -> None:
        """Keep the state as it is at the end of this turn, if that succeeds.

        Raises `RuntimeError` in a read-only turn, outside any turn, and in a class with events.
        """
        writing(self, "save()").save()

    def passivate(self) -> None:
        """Leave memory after this turn."""
        running(self, "passivate()").passivate()

    def changes(self, after: int = -1) -> AsyncIterator[int]:
        """Give the newest `seq` above `after`, then the newest after each commit.

        Only in a read-only turn's own task; waiting there holds nothing, and after each number
        the state may have changed. A volatile entity always gives its present `seq` first.
        """
        return running(self, "changes()").changes(after)

    def emit(self, event: E) -> None:
        """Record an event as it is now, and `apply` it at once.

        All events of a turn are kept at its end, if that succeeds. A class with events has no
        `save`. Raises `RuntimeError` in a read-only turn, outside any turn, and in a class without
        events; `StateError` for an event that cannot be stored.
        """
        writing(self, "emit()").emit(event)

    def apply(self, event: E) -> None:
        """Override: change the state as the event says, and nothing else.

        It runs in `emit`, and again for each event whenever the state is read: outside any turn,
        so what it needs stands in the event. What it raises fails the turn.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has events, and no apply()")

    def delete(self) -> None:
        """Drop state, events and reminders at the end of this turn, if that succeeds.

        The next turn finds a fresh state. The later of `save` (or `emit`) and `delete` in a turn
        counts.
        Raises `RuntimeError` in a read-only turn and outside any turn.
        """
        writing(self, "delete()").delete()

    def outside(self) -> AbstractAsyncContextManager[None]:
        """End the turn, run the block outside any, and go on in a new turn.

        What the turn has given so far is kept before the block begins. Other turns run meanwhile,
        so the block leaves `self.state` alone, and after it the state may have changed. If the
        block raises, or the deadline comes, there is no new turn and the call fails.

        Only in an RPC method's own task, not nested, not in hooks and streams: else raises
        `RuntimeError`.
        """
        return running(self, "outside()").outside()

    def remind(
        self,
        method: Callable[[Reminder], Awaitable[None]],
        *,
        after: timedelta = timedelta(),
        every: timedelta | None = None,
        name: str = "",
        durable: bool = True,
    ) -> None:
        """Call a method of this class later, as a turn of its own: `after` this turn's time, and
        then at each multiple of `every`.

        Asked for again for the same method and `name`, it replaces what was asked for before. A
        turn that fails comes again, after a second and then ever more slowly, until it succeeds.
        `durable=False`, and in a volatile class always: kept in memory, until a move or a crash.

        Raises `RuntimeError` in a read-only turn, outside any turn, and for what is no method of
        this class; `ValueError` for times that make no sense.
        """
        writing(self, "remind()").remind(method, after, every, name, durable=durable)

    def forget(self, method: Callable[[Reminder], Awaitable[None]], *, name: str = "") -> None:
        """Take back a reminder that has not begun; nothing happens if there is none.

        Raises `RuntimeError` as `remind` does.
        """
        writing(self, "forget()").forget(method, name)

    @classmethod
    def decode(cls, name: str, data: bytes) -> S | E:
        """Read a stored state or event.

        `name` is a protobuf message's full name, else the name that its class has in its module;
        empty for a class without a state. Override it for what was renamed or had another shape,
        and leave the rest to `super().decode(name, data)`, which finds the class by its name.
        Raises `StateError` for what it cannot read.
        """
        read = cls.seedbed_read
        if read is None:
            raise RuntimeError(
                f"decode(): no worker has loaded {cls.__qualname__}, or it is not durable: in a"
                " test, use it within `async with cluster(…)`"
            )
        # It gives instances of the state or of one of the events, which is what S and E say.
        return cast("S | E", read(name, data))


AnyEntity: TypeAlias = Entity[Any, Any]
Factory: TypeAlias = Callable[[], Entity[Any, Any]]
"""Makes a new instance: an entity class, or `functools.partial(Class, resource)`."""


def _not_yet(name: str) -> NoReturn:
    raise AttributeError(f"self.{name} is there from activated() on, not yet in __init__") from None
