"""The classes of which an entity class stores instances, its state's and its events', by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, get_origin

from seedbed.errors import StateError
from seedbed_worker.record_codec import Part
from seedbed_worker.state_codec import StateCodec, codec_of, codec_of_class, is_message_class


def stored_name(type_: object) -> str:
    """The name under which instances are stored: it must not change as long as there are any."""
    made: object = get_origin(type_) or type_
    if is_message_class(made):
        return made.DESCRIPTOR.full_name
    return getattr(made, "__qualname__", str(made))


class _Stored(NamedTuple):
    name: str
    made: type
    codec: StateCodec


class StoredTypes:
    """Writes states and events, and reads each by the name of its class.

    Raises `StateError` for a class whose instances cannot be stored.
    """

    def __init__(self, state: Callable[[], object], events: Sequence[type]) -> None:
        fresh = state()
        if fresh is None:
            self._state = _Stored("", type(None), codec_of(state))
        else:
            self._state = _Stored(stored_name(state), type(fresh), codec_of(state))
        self._events: dict[type, _Stored] = {}
        for event in events:
            name = stored_name(event)
            self._events[event] = _Stored(name, event, codec_of_class(event, f"the event {name}"))
        self._by_name = {one.name: one for one in (*self._events.values(), self._state)}

    def read(self, name: str, data: bytes) -> object:
        """What was stored under this name: `Entity.decode`, if nobody overrides it.

        Raises `StateError`.
        """
        found = self._by_name.get(name)
        if found is None:
            known = ", ".join(one or "None" for one in self._by_name)
            raise StateError(
                f"it is a {name or 'None'}, and the class has only {known}: override decode() to"
                " read what was renamed"
            )
        return found.codec.decode(data)

    def write_state(self, state: object) -> Part:
        """Raises `StateError`."""
        return Part(self._state.name, self._state.codec.encode(state))

    def write_event(self, event: object) -> Part:
        """The event is of one of the classes. Raises `StateError`."""
        found = self._events[type(event)]
        return Part(found.name, found.codec.encode(event))

    def check_state(self, state: object) -> None:
        """Raises `StateError` if it is none, as what an overridden `decode` has given."""
        if not isinstance(state, self._state.made):
            expected = self._state.made.__qualname__
            raise StateError(f"decode() gave a {type(state).__qualname__}, expected {expected}")

    def check_event(self, event: object) -> None:
        """Raises `StateError` if it is none."""
        if type(event) not in self._events:
            expected = ", ".join(one.__qualname__ for one in self._events) or "no event at all"
            raise StateError(f"decode() gave a {type(event).__qualname__}, expected {expected}")
