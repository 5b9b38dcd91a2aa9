"""A router's Links, one to each owner that was called: made when needed, closed with the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
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

    def all(self) -> list[Link]:
        """All Links there are now."""
        return [link for link, _ in self._links.values()]

    def close_others(self, owners: Container[Incarnation]) -> None:
        """Close the Links to all but these; what they still carry is lost."""
        for incarnation in [known for known in self._links if known not in owners]:
            _, task = self._links.pop(incarnation)
            task.cancel()
