"""The census, kept in the journal."""

from __future__ import annotations

from tests.support.census import Census


class DurableCensus(Census, durable=True):
    """Counts on where it left off, wherever it comes back."""
