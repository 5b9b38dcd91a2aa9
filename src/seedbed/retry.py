"""How the SDK waits before it connects again: the one place with these numbers.

Full jitter: any time between nothing and a bound that doubles up to `CAP_S`, so that many who
lost the same peer do not come back together. (The services use tenacity; the SDK does not depend
on it.)
"""

from __future__ import annotations

from random import Random
from typing import Final

BASE_S: Final = 0.05
CAP_S: Final = 1.0


def backoff_s(failures: int, random: Random) -> float:
    """Seconds to wait after this many failures in a row (1 or more)."""
    bound = min(CAP_S, BASE_S * 2.0 ** min(failures, 16))
    return random.uniform(0.0, bound)
