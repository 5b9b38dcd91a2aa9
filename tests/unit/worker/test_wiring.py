"""A worker put together: what the settings say reaches the parts that they are for."""

from __future__ import annotations

import pytest
from census.v1 import census_pb2 as pb

from seedbed.client_session import Method
from seedbed.descriptors import contract_of
from seedbed.errors import CallError, Reason
from seedbed_worker.config import WorkerConfig
from seedbed_worker.driver import Worker
from seedbed_worker.runtime import HostLimits
from tests.unit.sdk.test_router_tracing import FakeTracer

SETTINGS = {
    "SEEDBED_ENTITIES": "none.needed",
    "SEEDBED_NODE_ID": "w-7",
    "SEEDBED_MAILBOX_CALLS": "11",
    "SEEDBED_TYPE_CALLS": "12",
    "SEEDBED_WORKER_CALLS": "13",
    "SEEDBED_ONWARD_CALLS": "14",
    "SEEDBED_MAX_ENTITIES": "15",
    "SEEDBED_IDLE_TIMEOUT_S": "16",
    "SEEDBED_HANDOFF_TIMEOUT_S": "17",
    "SEEDBED_MAX_MESSAGE_BYTES": "1024",
    "SEEDBED_DEFAULT_DEADLINE_S": "18",
    "SEEDBED_REPEAT_WINDOW_S": "19",
    "SEEDBED_REPEAT_BYTES": "20",
    "SEEDBED_PARKED_CALLS": "1",
}


async def test_the_limits_of_the_host_are_those_of_the_settings() -> None:
    worker = Worker(WorkerConfig.read(SETTINGS), FakeTracer(), [])
    assert worker.host.rt.limits == HostLimits(
        mailbox_calls=11,
        type_calls=12,
        worker_calls=13,
        onward_calls=14,
        max_entities=15,
        idle_timeout_s=16,
        handoff_timeout_s=17,
        max_message_bytes=1024,
        repeat_window_s=19,
        repeat_bytes=20,
    )


async def test_so_are_those_of_its_entities_own_calls() -> None:
    tracer = FakeTracer()
    onward = Worker(WorkerConfig.read(SETTINGS), tracer, []).onward
    session = onward.session
    assert onward.default_deadline_s == 18
    turn = ("cart", "c-1", "a caller's key")
    assert onward.first_attempts.at_ms(turn, 1_000) == 1_000
    assert onward.first_attempts.at_ms(turn, 1_000 + 18_999) == 1_000
    assert onward.first_attempts.at_ms(turn, 1_000 + 19_000) == 20_000
    assert (session.router.node, session.router.tracer) == ("w-7", tracer)

    session.when_synced(lambda: None)
    with pytest.raises(CallError) as full:
        session.when_synced(lambda: None)
    assert full.value.reason is Reason.OVERLOADED

    contract = contract_of(pb.DESCRIPTOR.services_by_name["Census"])
    get = Method(contract.methods["Get"], contract.type, 8)
    person = pb.Person(name="a" * 1024).SerializeToString()
    with pytest.raises(CallError) as large:
        session.address(get, person, None, None)
    assert large.value.reason is Reason.TOO_LARGE
