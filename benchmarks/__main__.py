"""All benchmarks in one run: a table on stdout, JSON in benchmarks/results. `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from importlib.metadata import version
from pathlib import Path

import uvloop

from benchmarks import client, dispatch, durable, kit, onward, servers
from benchmarks.report import Report

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3, help="rounds of each comparison")
    arguments.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    chosen = arguments.parse_args()
    report = Report()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(servers.measure(report, chosen.rounds, chosen.seconds))
        runner.run(client.measure(report, chosen.rounds, chosen.seconds))
        runner.run(onward.measure(report, chosen.rounds, chosen.seconds))
    dispatch.measure(report)
    durable.measure(report, chosen.rounds)
    kit.measure(report)
    print(report.table())
    RESULTS.mkdir(exist_ok=True)
    facts = {
        "python": platform.python_version(),
        "grpcio": version("grpcio"),
        "protobuf": version("protobuf"),
        "uvloop": version("uvloop"),
        "figures": report.rows(),
    }
    RESULTS.joinpath("latest.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"grpcio {facts['grpcio']}, protobuf {facts['protobuf']}, uvloop {facts['uvloop']}")


if __name__ == "__main__":
    main()
