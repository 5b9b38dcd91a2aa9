"""Which settings of a server keep what it has answered."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.postgres_session import unsafe


@pytest.mark.parametrize("waits", ["on", "remote_apply", "remote_write"])
def test_a_server_that_waits_for_a_standby_is_fit(waits: str) -> None:
    assert not unsafe(waits, "ANY 1 (a, b)", require_sync=True)


@pytest.mark.parametrize("waits", ["on", "local"])
def test_one_without_a_standby_is_fit_unless_one_is_required(waits: str) -> None:
    assert not unsafe(waits, "", require_sync=False)
    assert "synchronous_standby_names is empty" in unsafe(waits, "", require_sync=True)


def test_one_that_does_not_wait_for_its_standby_is_not_what_is_required() -> None:
    assert not unsafe("local", "a", require_sync=False)
    assert "synchronous_commit is local" in unsafe("local", "a", require_sync=True)


@pytest.mark.parametrize("required", [True, False])
def test_one_that_does_not_wait_for_its_disk_is_never_fit(required: bool) -> None:
    assert "synchronous_commit is off" in unsafe("off", "a", require_sync=required)
