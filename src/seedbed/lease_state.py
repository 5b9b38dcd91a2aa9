"""What a seed answers to a worker's heartbeat."""

from __future__ import annotations

from enum import Enum


class LeaseState(Enum):
    """How the worker's lease stands: renewed, over for ever, or not known in time."""

    RENEWED = "RENEWED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"
