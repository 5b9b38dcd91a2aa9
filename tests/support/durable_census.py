"""The census, kept in the journal."""

from __future__ import annotations

from tests.support.census import Census
from tests.support.witness import Witness


class DurableCensus(Census, durable=True):
    """Counts on where it left off, wherever it comes back."""


class DurableWitness(Witness, durable=True):
    """The same, and reports what it does: an effect is reported before it is kept."""
