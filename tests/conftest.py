"""What holds for the whole suite: how Hypothesis judges time on a busy machine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# pytest's own timeout ends what hangs; a slow draw (the first text builds a table of all
# characters) says more about the machine than about the test.
settings.register_profile("seedbed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("seedbed")
