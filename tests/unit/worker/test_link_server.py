"""The Link's serving end: batches in, batches out."""

from __future__ import annotations

from seedbed.calls import Failed, NotHere, Replied
from seedbed.errors import Reason
from seedbed.ids import Generation
from seedbed.v1 import link_pb2
from seedbed_worker.link_server import SHARE
from tests.unit.worker.host_world import GATES, LOG, settle
from tests.unit.worker.link_world import linked, total


async def test_calls_of_one_batch_are_all_answered() -> None:
    async with linked() as (w, router, _):
        ids = router.send(*(w.call("Write", key, amount=2) for key in "abc"))
        replies = dict([await router.reply() for _ in ids])
        assert {id_: total(reply) for id_, reply in replies.items()} == dict.fromkeys(ids, 2)
        assert all(isinstance(r, Replied) and r.epoch == 1 for r in replies.values())


async def test_replies_to_a_large_batch_leave_before_all_of_it_has_begun() -> None:
    async with linked() as (w, router, _):
        ids = router.send(*(w.call("Write", f"k{n}", amount=1) for n in range(8 * SHARE)))
        first, _ = await router.reply()
        begun = sum(line.startswith("begin") for line in LOG)
        assert first == ids[0]
        assert SHARE <= begun < 8 * SHARE
        assert sorted([first, *[(await router.reply())[0] for _ in ids[1:]]]) == ids


async def test_a_slow_call_does_not_hold_up_others() -> None:
    async with linked() as (w, router, _):
        slow, fast = router.send(w.call("Write", "a", gate="g"), w.call("Write", "b"))
        assert (await router.reply())[0] == fast
        GATES.open("g")
        assert (await router.reply())[0] == slow


async def test_what_is_not_ours_is_answered_with_the_generation() -> None:
    async with linked() as (w, router, _):
        w.place("other")
        router.send(w.call("Write"))
        assert (await router.reply())[1] == NotHere(Generation(2))


async def test_a_type_that_is_not_hosted_here_is_not_ours_either() -> None:
    async with linked() as (w, router, _):
        call = w.call("Write")
        call.type = "else"
        router.send(call)
        assert isinstance((await router.reply())[1], NotHere)


async def test_errors_keep_their_reason() -> None:
    async with linked() as (w, router, _):
        router.send(w.call("Missing"))
        _, reply = await router.reply()
        assert isinstance(reply, Failed)
        assert reply.reason is Reason.UNKNOWN_METHOD


async def test_a_stream_sends_no_more_than_its_credit() -> None:
    async with linked() as (w, router, _):
        (id_,) = router.send(w.call("Watch"), credit=1)
        assert await router.reply() == (id_, b"")
        for _ in range(3):
            await w.write()
            await settle()
        router.write(
            link_pb2.CallBatch(credits=[link_pb2.Credit(id=id_, items=2)]).SerializeToString()
        )
        assert [total((await router.reply())[1]) for _ in range(2)] == [1, 3]


async def test_a_cancelled_call_in_line_never_runs_and_a_running_one_ends() -> None:
    async with linked() as (w, router, _):
        running, queued = router.send(
            w.call("Write", amount=1, gate="g"), w.call("Write", amount=5)
        )
        await GATES.reach("g")
        router.write(link_pb2.CallBatch(cancels=[running, queued]).SerializeToString())
        await settle()
        GATES.open("g")
        await settle()
        assert (await w.read()).total == 1
        assert w.host.rt.calls == 0


async def test_a_cancelled_stream_ends() -> None:
    async with linked() as (w, router, _):
        (id_,) = router.send(w.call("Watch"), credit=5)
        await router.reply()
        router.write(link_pb2.CallBatch(cancels=[id_]).SerializeToString())
        await settle()
        assert w.host.rt.streams == 0
