"""A router's Links, one to each owner that was called: made when needed, closed with the owner.

An owner that no table names any more has answers on the way: its Link takes no new calls and closes
with the last passenger's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from functools import partial
from random import Random

from seedbed.clock import Clock
from seedbed.ids import Incarnation
from seedbed.link import Link, LinkLimits
from seedbed.routing import Owner
from seedbed.transport import Transport


class Links:
    """By incarnation: a worker that came back under its old name is another one."""

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        limits: LinkLimits,
        random: Random,
        opened: Callable[[Incarnation], None],
        role: str,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._limits = limits
        self._random = random
        self._opened = opened
        self._role = role
        self._links: dict[Incarnation, tuple[Link, asyncio.Task[None]]] = {}
        self._leaving: dict[Link, tuple[Incarnation, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def closed(self) -> bool:
        """No Link can be made: `run` does not run (any more)."""
        return self._group is None

    async def run(self) -> None:
        """Be the parent of all Links, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await asyncio.Event().wait()
                finally:
                    self._group = None
        finally:
            self._links.clear()
            self._leaving.clear()

    def to(self, owner: Owner) -> Link | None:
        """The Link to an owner; None while closed."""
        known = self._links.get(owner.incarnation)
        if known is not None:
            return known[0]
        if self._group is None:
            return None
        link = Link(
            self._transport.connect(owner.address),
            owner.address,
            clock=self._clock,
            limits=self._limits,
            random=self._random,
            opened=lambda: self._opened(owner.incarnation),
            role=self._role,
        )
        self._links[owner.incarnation] = (link, self._group.create_task(link.run()))
        return link

    def all(self) -> list[tuple[Incarnation, Link]]:
        """All Links there are now, also those that are to close."""
        return [
            *((incarnation, link) for incarnation, (link, _) in self._links.items()),
            *((incarnation, link) for link, (incarnation, _) in self._leaving.items()),
        ]

    def close_others(self, owners: Container[Incarnation], at_ns: int) -> None:
        """Let the Links to all but these close, as soon as they are empty: at this time at the
        latest, when what they still carry is given up."""
        for incarnation in [known for known in self._links if known not in owners]:
            link, task = self._links.pop(incarnation)
            self._leaving[link] = (incarnation, task)
            for passenger in link.passengers():
                passenger.give_up_at(at_ns)
            link.when_empty(partial(self._close, link))

    def _close(self, link: Link) -> None:
        _, task = self._leaving.pop(link)
        task.cancel()
