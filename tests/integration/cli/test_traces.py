"""One trace from the caller through seed and worker, exported by OpenTelemetry's own variables."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.cli.running import ran, up

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def spans(log: Path) -> list[dict[str, str]]:
    """Name, trace, span and parent of what the console exporter wrote."""
    decoder, found = json.JSONDecoder(), list[dict[str, str]]()
    text = log.read_text("utf-8")
    at = text.find('{\n    "name"')
    while at >= 0:
        span, length = decoder.raw_decode(text[at:])
        context = span["context"]
        found.append(
            {
                "name": span["name"],
                "trace": context["trace_id"],
                "span": context["span_id"],
                "parent": str(span["parent_id"]),
            }
        )
        at = text.find('{\n    "name"', at + length)
    return found


async def test_a_sampled_call_is_one_trace_and_others_are_none(tmp_path: Path) -> None:
    arguments = ("--entities", "thermostat.entity", "--free-ports", "--workers", "1")
    traces = {"SEEDBED_ETCD": "memory", "OTEL_TRACES_EXPORTER": "console"}
    async with up(tmp_path, *arguments, "--data", "data", **traces) as run:
        tried = await run.event("try")
        call = ("call", str(tried["method"]), '{"device_id": "a"}', "--seed", str(tried["seed"]))
        assert (await ran("seedbed.cli", *call))[0] == 0
        sampled = ("-H", f"traceparent:00-{TRACE}-{PARENT}-01")
        assert (await ran("seedbed.cli", *call, *sampled))[0] == 0
        run.process.send_signal(signal.SIGINT)
        assert (await run.end())[0] == 0
    link, edge = spans(tmp_path / "data" / "logs" / "seed-1.log")
    (turn,) = spans(tmp_path / "data" / "logs" / "worker-1.log")
    assert edge["name"] == "edge thermostat.v1.Thermostat/Report"
    assert link["name"] == "link thermostat.v1.Thermostat/Report"
    assert turn["name"] == "turn thermostat.v1.Thermostat/Report"
    assert edge["trace"] == link["trace"] == turn["trace"] == f"0x{TRACE}"
    assert edge["parent"] == f"0x{PARENT}"
    assert link["parent"] == edge["span"]
    assert turn["parent"] == link["span"]
