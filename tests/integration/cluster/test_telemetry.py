"""One trace for a sampled call, end to end; nothing for any other; and metrics that add up."""

from __future__ import annotations

import json
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from tests.support.cluster import cluster
from tests.support.collector import collector
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

CALLER = "00f067aa0ba902b7"
SAMPLED = "4bf92f3577b34da6a3ce929d0e0e4736"
UNSAMPLED = "5bf92f3577b34da6a3ce929d0e0e4736"


def traceparent(trace: str, flags: str) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{CALLER}-{flags}"),)


async def test_a_sampled_call_is_one_trace_and_others_leave_none(tmp_path: Path) -> None:
    async with collector() as traces:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        async with cluster(tmp_path, workers=1, seed_env=env, worker_env=env) as running:
            await running.placed(1)
            async with grpc.aio.insecure_channel(running.entry) as channel:
                stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
                person = pb.Person(name="secret-person")
                await stub.Add(person, timeout=5)
                await stub.Add(person, timeout=5, metadata=traceparent(UNSAMPLED, "00"))
                await stub.Add(person, timeout=5, metadata=traceparent(SAMPLED, "01"))
                await until(
                    "three spans have come",
                    lambda: len(traces.spans.get(SAMPLED, [])) >= 3,
                    within=10,
                )
        assert traces.spans.keys() == {SAMPLED}
        spans = {span.name.split()[0]: (service, span) for service, span in traces.spans[SAMPLED]}
        assert spans.keys() == {"edge", "link", "turn"}
        (edge_service, edge), (_, link), (turn_service, turn) = (
            spans[kind] for kind in ("edge", "link", "turn")
        )
        assert (edge_service, turn_service) == ("seedbed-seed", "seedbed-worker")
        assert edge.parent_span_id.hex() == CALLER
        assert link.parent_span_id == edge.span_id
        assert turn.parent_span_id == link.span_id
        assert "secret-person" not in str([span for _, span in spans.values()])


async def test_metrics_and_health_say_what_happened(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=1) as running:
        await running.placed(1)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            for _ in range(7):
                await stub.Add(pb.Person(name="a"), timeout=5)
        seed = await running.seeds[0].fetch("/metrics")
        worker = await running.workers[0].fetch("/metrics")
        for text in (seed, worker):
            line = next(
                line
                for line in text.splitlines()
                if 'method="Add"' in line and 'code="OK"' in line and "bucket" not in line
            )
            assert 'type="census"' in line
            assert line.split()[-1] in {"7", "7.0"}
        for name in ("seedbed_members", "seedbed_shards", "seedbed_leader"):
            assert name in seed
        assert "seedbed_lease_margin_seconds" in worker
        for node in (*running.seeds, *running.workers):
            assert json.loads(await node.fetch("/health/ready"))
            assert json.loads(await node.fetch("/health/alive"))


async def test_the_log_tells_a_members_story(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=1) as running:
        await running.placed(1)
        running.workers[0].terminate()
        assert await running.workers[0].exit_code() == 0
        await until(
            "the seed has seen it leave",
            lambda: "member left" in running.seeds[0].log_text(),
            within=5,
        )
        lines = [json.loads(line) for line in running.seeds[0].log_text().splitlines()]
        name = running.workers[0].name
        story = [line["event"] for line in lines if line.get("node") == name]
        told = [event for event in story if event.startswith("member ")]
        assert told == ["member joining", "member up", "member draining", "member left"]
