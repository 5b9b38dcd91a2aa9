"""What a router was told by workers that are not the owners of what they were sent. Pure."""

from __future__ import annotations

from seedbed.calls import EntityCall, NotHere, Outcome
from seedbed.ids import NO_GENERATION, Generation
from seedbed.routing import RouteTable


class Refusals:
    """By shard, the generation of the newest table that does not show its owner.

    All calls of the shard wait for a newer one: nobody asks again who has just refused.
    """

    __slots__ = ("_generations",)

    def __init__(self) -> None:
        self._generations: dict[tuple[str, int], Generation] = {}

    def note(self, call: EntityCall, outcome: Outcome) -> None:
        """The call went by its generation's table to one who is not the owner.

        Who says NotHere did so by a table of his own: if that is newer, an older one is no help.
        """
        generation = call.generation
        if isinstance(outcome, NotHere) and outcome.generation > generation:
            generation = Generation(outcome.generation - 1)
        key = (call.type, call.shard)
        self._generations[key] = max(generation, self.newest(*key))

    def newest(self, type_: str, shard: int) -> Generation:
        """A table up to this generation does not help; 0: any does."""
        return self._generations.get((type_, shard), NO_GENERATION)

    def forget_older(self, table: RouteTable) -> None:
        """Drop what newer tables have answered."""
        self._generations = {
            (type_, shard): generation
            for (type_, shard), generation in self._generations.items()
            if table.generation(type_, shard) <= generation
        }
