"""Which seed a worker tries next: those of its settings and those that seeds told it of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class SeedBook:
    """Addresses of seeds. `chance` gives numbers in [0, 1), so that workers spread."""

    def __init__(self, configured: Sequence[str], chance: Callable[[], float]) -> None:
        self._configured = tuple(configured)
        self._told: tuple[str, ...] = ()
        self._chance = chance

    def told(self, addresses: Iterable[str]) -> None:
        """A seed named all seeds; an empty list says nothing."""
        if told := tuple(dict.fromkeys(address for address in addresses if address)):
            self._told = told

    def round(self, *, without: str = "", last: str = "") -> list[str]:
        """Each seed once, in random order: told ones first, since they are seeds of today.

        `without` is left out; `last` stands at the end (it may be the one that just failed).
        """
        configured = [address for address in self._configured if address not in self._told]
        order = [*self._shuffled(self._told), *self._shuffled(configured)]
        order = [address for address in order if address not in (without, last)]
        return [*order, last] if last and last != without else order

    def _shuffled(self, addresses: Iterable[str]) -> list[str]:
        rest = list(addresses)
        order: list[str] = []
        while rest:
            order.append(rest.pop(int(self._chance() * len(rest))))
        return order
