"""A cluster for tests: several workers in the test's own process, no sockets, a clock to turn.

`async with cluster(Cart, workers=2) as c:` gives a `Cluster`. The cores that run in it are those of
real seeds and workers, so it needs both: `pip install "seedbed[testing]"`.
"""

from __future__ import annotations

try:
    from seedbed.testing.cluster import Cluster
    from seedbed.testing.start import cluster
    from seedbed.testing.warning import NeverAwaited, StillRunning, UnsavedChange
except ModuleNotFoundError as error:
    if error.name not in ("seedbed_seed", "seedbed_worker"):
        raise
    raise ImportError(
        f"seedbed.testing runs the cores of seeds and workers, and {error.name} is not installed:"
        ' pip install "seedbed[testing]"'
    ) from error

__all__ = ["Cluster", "NeverAwaited", "StillRunning", "UnsavedChange", "cluster"]
