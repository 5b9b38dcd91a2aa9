"""One call at a time: order, errors, deadlines, and what a turn may do."""

from __future__ import annotations

import asyncio

import pytest
from google.rpc.status_pb2 import Status
from probe.v1 import probe_pb2 as pb

from seedbed.calls import Replied
from seedbed.errors import Reason
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    STRAYS,
    TTL_NS,
    not_here,
    reason,
    refused,
    reply,
    settle,
    unary,
    world,
)

NOT_FOUND, UNKNOWN, OK = 5, 2, 0


async def test_a_write_is_kept_and_a_read_sees_it() -> None:
    async with world() as w:
        assert (await w.write(amount=3)).total == 3
        assert (await w.read()).total == 3
        assert (await w.read("b")).total == 0


async def test_writers_of_one_entity_run_one_at_a_time_in_order() -> None:
    async with world() as w:
        calls = [w.start(w.call("Write", amount=n, gate=f"w{n}")) for n in range(3)]
        await GATES.reach("w0")
        for n in (2, 1, 0):
            GATES.open(f"w{n}")
        assert [reply(await call.answer()).total for call in calls] == [0, 1, 3]
        assert LOG == ["begin a 0", "end a 0", "begin a 1", "end a 1", "begin a 2", "end a 2"]


async def test_readers_overlap_and_other_entities_go_on() -> None:
    async with world() as w:
        readers = [w.start(w.call("Read", gate="r")) for _ in range(2)]
        await GATES.reach("r")
        await GATES.reach("r")
        writer = w.start(w.call("Write"))
        assert (await w.write("b")).total == 1
        assert not writer.done
        GATES.open("r")
        for call in (*readers, writer):
            await call.answer()


async def test_the_reply_is_made_before_the_next_turn_begins() -> None:
    async with world() as w:
        first = w.start(w.call("Write", amount=1))
        second = w.start(w.call("Write", amount=1))
        assert reply(await first.answer()).total == 1
        assert reply(await second.answer()).total == 2


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("abort", NOT_FOUND, "no such"),
        ("abort and go on", NOT_FOUND, "no such"),
        ("Abort", 9, "not so"),
        ("raise", UNKNOWN, "ZeroDivisionError"),
        ("exit", UNKNOWN, "SystemExit"),
    ],
)
async def test_a_turn_that_fails_answers_its_status_and_drops_its_plain_calls(
    how: str, code: int, message: str
) -> None:
    async with world() as w:
        answer = refused(await w.run(w.call("Act", how=how, amount=7)))
        assert (answer.code, answer.message, answer.started) == (code, message, True)
        after = await w.read()
        assert after.seq == 0
        # A volatile entity's memory stays as the turn left it.
        assert after.total == (7 if how in ("abort", "raise") else 0)


async def test_abort_carries_details() -> None:
    async with world() as w:
        answer = refused(await w.run(w.call("Act", how="Abort")))
        status = Status.FromString(answer.details)
        detail = pb.Reply()
        assert status.details[0].Unpack(detail)
        assert (status.code, detail.text) == (9, "detail")


async def test_set_code_with_a_normal_return_keeps_the_changes() -> None:
    async with world() as w:
        answer = refused(await w.run(w.call("Act", how="set_code", amount=1)))
        assert (answer.code, answer.message, answer.reason) == (7, "wrong password", None)
        after = await w.read()
        assert (after.total, after.seq) == (1, 1)


async def test_a_reply_of_the_wrong_type_says_so() -> None:
    async with world() as w:
        answer = refused(await w.run(w.call("Act", how="wrong type")))
        assert answer.code == UNKNOWN
        assert answer.message == "/probe.v1.Probe/Act returned str, expected probe.v1.Reply"


async def test_a_reply_over_the_limit_fails_its_turn() -> None:
    async with world() as w:
        assert reason(await w.run(w.call("Act", how="too large"))) is Reason.TOO_LARGE
        assert (await w.read()).seq == 0


async def test_a_request_that_does_not_parse_runs_nothing_and_makes_no_entity() -> None:
    async with world() as w:
        call = w.call("Write")
        call.request = b"\x0a\x01a\xff\xff"
        answer = refused(await w.run(call))
        assert (answer.reason, answer.started) == (Reason.BAD_REQUEST, False)
        assert not w.host.homes["probe"].entities
        assert not w.host.homes["probe"].cells


@pytest.mark.parametrize("method", ["Missing", "Unheard"])
async def test_a_method_that_the_class_does_not_have_is_refused(method: str) -> None:
    async with world() as w:
        answer = refused(await w.run(w.call(method)))
        assert (answer.reason, answer.code, answer.started) == (Reason.UNKNOWN_METHOD, 12, False)
        w.place("other")
        assert not_here(await w.run(w.call(method)))


async def test_metadata_goes_both_ways() -> None:
    async with world() as w:
        call = w.call("Act", how="metadata")
        call.metadata = (("tenant", "t"), ("blob-bin", b"\x00"))
        answer = await w.run(call)
        assert isinstance(answer, Replied)
        assert reply(answer).text == "tenant='t',blob-bin=b'\\x00'"
        assert answer.initial == (("first", "1"),)
        assert answer.trailing == (("last", "2"),)


async def test_the_turn_says_where_and_for_whom_it_runs() -> None:
    async with world() as w:
        text = reply(await w.run(w.call("Act", how="turn"))).text
        for part in ("'probe'", "epoch=1", "'w-1'", "'id-1'", "'spiffe://x'", "read_only=False"):
            assert part in text
        text = reply(await w.run(w.call("ReadAct", how="turn", deadline_s=None))).text
        assert "read_only=True" in text
        assert "deadline=None" in text


@pytest.mark.parametrize("how", ["save", "changes"])
async def test_what_does_not_fit_the_turn_raises(how: str) -> None:
    async with world() as w:
        method = "ReadAct" if how == "save" else "Act"
        answer = refused(await w.run(w.call(method, how=how)))
        assert answer.message == "RuntimeError"


async def test_a_task_that_outlives_its_turn_has_none() -> None:
    async with world() as w:
        await w.run(w.call("Act", how="stray"))
        GATES.open("stray")
        assert "its turn is over" in await asyncio.wait_for(STRAYS[0], 5)
        assert (await w.read()).seq == 0


async def test_a_call_whose_deadline_has_passed_does_not_begin() -> None:
    async with world() as w:
        running = w.start(w.call("Write", gate="g"))
        await GATES.reach("g")
        late = w.start(w.call("Write", amount=5, deadline_s=1))
        w.clock.advance(1.5)
        w.host.tick()
        answer = refused(await late.answer())
        assert (answer.reason, answer.started) == (Reason.DEADLINE, False)
        assert not running.done
        GATES.open("g")
        await running.answer()
        assert (await w.read()).total == 0


async def test_a_turn_is_cancelled_at_its_deadline_and_the_next_one_begins() -> None:
    async with world() as w:
        stuck = w.start(w.call("Write", gate="never", deadline_s=1))
        await GATES.reach("never")
        following = w.start(w.call("Write", amount=2))
        w.clock.advance(1.5)
        w.host.tick()
        answer = refused(await stuck.answer())
        assert (answer.reason, answer.started) == (Reason.DEADLINE, True)
        assert reply(await following.answer()).total == 2


async def test_a_caller_that_goes_away_does_not_cancel_a_turn() -> None:
    async with world() as w:
        async with asyncio.TaskGroup() as tasks:
            caller = tasks.create_task(unary(w.host, w.call("Write", amount=1, gate="g")))
            await GATES.reach("g")
            caller.cancel()
        GATES.open("g")
        await settle()
        after = await w.read()
        assert (after.total, after.seq) == (1, 1)
        assert w.metrics.codes["Write"] == [OK]


async def test_a_caller_that_goes_away_before_its_turn_drops_it() -> None:
    async with world() as w:
        running = w.start(w.call("Write", gate="g"))
        await GATES.reach("g")
        async with asyncio.TaskGroup() as tasks:
            caller = tasks.create_task(unary(w.host, w.call("Write", amount=1)))
            await settle()
            caller.cancel()
        GATES.open("g")
        await running.answer()
        assert (await w.read()).total == 0
        assert w.host.rt.calls == 0


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (HostLimits(mailbox_calls=2), "SEEDBED_MAILBOX_CALLS"),
        (HostLimits(type_calls=2), "SEEDBED_TYPE_CALLS"),
        (HostLimits(worker_calls=2), "SEEDBED_WORKER_CALLS"),
    ],
)
async def test_a_full_limit_is_named_and_says_when_to_come_again(
    limits: HostLimits, setting: str
) -> None:
    async with world(limits=limits) as w:
        running = [w.start(w.call("Write", gate="g")) for _ in range(2)]
        answer = refused(await w.run(w.call("Write")))
        assert answer.reason is Reason.OVERLOADED
        assert setting in answer.message
        assert answer.retry_after_s
        GATES.open("g")
        for call in running:
            await call.answer()
        await w.write()


async def test_no_reply_leaves_after_the_lease() -> None:
    async with world() as w:
        call = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        w.clock.advance(TTL_NS / 1e9)
        GATES.open("g")
        answer = refused(await call.answer())
        assert (answer.reason, answer.started) == (Reason.FENCED, True)


async def test_no_error_leaves_after_the_lease_either() -> None:
    async with world() as w:
        call = w.start(w.call("Write", amount=1, gate="g"))
        queued = w.start(w.call("Act", how="Abort"))
        await GATES.reach("g")
        w.clock.advance(TTL_NS / 1e9)
        GATES.open("g")
        assert reason(await call.answer()) is Reason.FENCED
        assert not_here(await queued.answer())


async def test_no_turn_begins_without_a_valid_lease() -> None:
    async with world() as w:
        w.clock.advance(TTL_NS / 1e9)
        assert not_here(await w.run(w.call("Write")))
        assert LOG == []


async def test_a_reply_is_gated_when_only_the_session_thread_knows_of_the_loss() -> None:
    async with world() as w:
        call = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        w.place("other")  # the region has it; the loop has not been told
        GATES.open("g")
        assert reason(await call.answer()) is Reason.FENCED


async def test_nothing_is_left_of_calls_that_have_ended() -> None:
    async with world() as w:
        for how in ("raise", "abort", "metadata"):
            await w.run(w.call("Act", how=how))
        home = w.host.homes["probe"]
        assert (w.host.rt.calls, w.host.rt.live) == (0, 1)
        assert not home.calls
        assert not home.cells


async def test_answers_are_counted_by_method() -> None:
    async with world() as w:
        await w.write()
        await w.run(w.call("Act", how="abort"))
        assert w.metrics.codes["Write"] == [OK]
        assert w.metrics.codes["Act"] == [NOT_FOUND]


async def test_calls_that_wait_when_the_host_is_stopped_are_answered() -> None:
    async with world() as w:
        running = w.start(w.call("Write", gate="never"))
        await GATES.reach("never")
        queued = w.start(w.call("Write"))
    assert reason(running.future.result()) is Reason.FENCED
    assert refused(queued.future.result()).started is False
