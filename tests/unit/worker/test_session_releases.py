"""How a worker tells the seeds what it has released, and how busy its shards are."""

from __future__ import annotations

from seedbed.ids import Epoch
from seedbed.routing import Release
from seedbed.v1 import cluster_pb2 as pb
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.session_wire import LoadSummary, ShardRate, to_seed
from tests.unit.worker.test_session_core import MS, TTL, member, table, welcome

RELEASE = Release("t", 0, Epoch(5))


def test_a_release_is_told_at_once_and_with_each_beat_until_a_table_shows_it() -> None:
    w = member()
    w.says(1, msg.Routes((table("1", 5),)))
    w.event(ev.ReleasesChanged())
    assert ev.Send(1, msg.Released(())) not in w.sent, "nothing to tell"
    w.core.region.release([RELEASE])
    w.event(ev.ReleasesChanged())
    assert w.sent[-1] == ev.Send(1, msg.Released((RELEASE,)))
    w.after(TTL // 4)
    beat = w.sent[-1].message
    assert isinstance(beat, msg.Beat)
    assert beat.released == (RELEASE,)
    w.ack()
    w.says(1, msg.Routes((table("other", 6),)))
    w.after(TTL // 4)
    beat = w.sent[-1].message
    assert isinstance(beat, msg.Beat)
    assert beat.released == ()


def test_after_a_resume_the_next_beat_repeats_it() -> None:
    w = member()
    w.says(1, msg.Routes((table("1", 5),)))
    w.core.region.release([RELEASE])
    w.ends(1)
    w.after(100 * MS)
    resumed = w.last.stream
    w.says(resumed, welcome())
    beat = w.sent[-1]
    assert beat.stream == resumed != 1
    assert isinstance(beat.message, msg.Beat)
    assert beat.message.released == (RELEASE,)


def test_releases_and_rates_go_as_they_are() -> None:
    other = Release("u", 2, Epoch(9))
    load = LoadSummary(hottest=(ShardRate("t", 3, 1.5),))
    wire = pb.WorkerMessage.FromString(to_seed(msg.Beat(1, (RELEASE, other)), load)).heartbeat
    told = [(one.type, [*one.shards], [*one.epochs]) for one in wire.released]
    assert told == [("t", [0], [5]), ("u", [2], [9])]
    assert [(one.type, one.shard, one.calls_per_s) for one in wire.load.hottest] == [("t", 3, 1.5)]
    alone = pb.WorkerMessage.FromString(to_seed(msg.Released((RELEASE,)), LoadSummary()))
    assert alone.released.released[0] == wire.released[0]
