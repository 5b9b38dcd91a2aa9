"""The commands of operators: what they order, and what happens."""

from __future__ import annotations

from threading import Event
from typing import Annotated, TypeAlias, TypeVar

import grpc
import typer
from google.protobuf.message import Message

from seedbed.cli import phrases, tables
from seedbed.cli.asking import Ask, FormOption, SeedOption, Shown, ask, follow, show_answer
from seedbed.cli.connection import CALL_LIMIT_S, connected
from seedbed.cli.failure import Failure, Form, of_rpc, reporting, show, wrong_usage
from seedbed.v1 import admin_pb2, admin_pb2_grpc

R = TypeVar("R", bound=Message)

MAX_SHARD = 10_000_000
"""No type has this many; it bounds what a range is written out to."""

RETRY_S = 1.0
"""Between two attempts to follow a seed's events."""

Admin: TypeAlias = admin_pb2_grpc.AdminStub
NodeArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NODE")]
TypeArgument: TypeAlias = Annotated[str, typer.Argument(metavar="TYPE")]
ShardArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="SHARD", help="One, a range or a list: 3,7-9.")
]


def add_to(app: typer.Typer) -> None:
    """Make these commands part of `seedbed`."""
    for command in (drain, cordon, uncordon, move, pin, unpin, rebalance, freeze, unfreeze, events):
        app.command()(command)


def drain(
    node: NodeArgument,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the shards left, until there are none.")
    ] = False,
) -> None:
    """Give a worker nothing more, and hand off what it has. Until `uncordon`."""

    def order(admin: Admin) -> admin_pb2.DrainResponse:
        return admin.Drain(admin_pb2.DrainRequest(node_id=node), timeout=CALL_LIMIT_S)

    with reporting(output):
        answer = ask(seed, order)
        show_answer(answer, output, phrases.drained)
        if watch:
            # The order is repeated: it changes nothing, and says what is left.
            follow(seed, output, order, phrases.drained, answer, _is_empty)


def cordon(node: NodeArgument, seed: SeedOption = "", output: FormOption = Form.TABLE) -> None:
    """Give a worker nothing more. Until `uncordon`."""

    def order(admin: Admin) -> admin_pb2.CordonResponse:
        return admin.Cordon(admin_pb2.CordonRequest(node_id=node), timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda answer: phrases.member(answer.member))


def uncordon(node: NodeArgument, seed: SeedOption = "", output: FormOption = Form.TABLE) -> None:
    """Take back `drain` and `cordon`."""

    def order(admin: Admin) -> admin_pb2.UncordonResponse:
        return admin.Uncordon(admin_pb2.UncordonRequest(node_id=node), timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda answer: phrases.member(answer.member))


def move(
    type_: TypeArgument,
    shard: ShardArgument,
    node: NodeArgument,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Hand off shards to a worker, once. Ends when the hand-offs have begun."""

    def order(admin: Admin) -> admin_pb2.MoveShardsResponse:
        request = admin_pb2.MoveShardsRequest(type=type_, shards=shards_of(shard), node_id=node)
        return admin.MoveShards(request, timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda answer: tables.shard_list(answer.shards))


def pin(
    type_: TypeArgument,
    shard: ShardArgument,
    node: NodeArgument,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Keep shards on a worker whenever it is up. Until `unpin`."""
    with reporting(output):
        if not node:
            raise wrong_usage("NODE: found '', expected a node id; `seedbed unpin` unpins")
    _pin(type_, shard, node, seed, output)


def unpin(
    type_: TypeArgument,
    shard: ShardArgument,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Take back `pin`."""
    _pin(type_, shard, "", seed, output)


def rebalance(
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be moved.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Begin to move it.")] = False,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Even out the load of the workers, now."""

    def order(admin: Admin) -> admin_pb2.RebalanceResponse:
        return admin.Rebalance(admin_pb2.RebalanceRequest(apply=apply), timeout=CALL_LIMIT_S)

    with reporting(output):
        if plan == apply:
            raise wrong_usage("rebalance: give one of --plan and --apply")
    _once(seed, output, order, phrases.rebalance)


def freeze(
    reason: Annotated[str, typer.Argument(metavar="[REASON]")] = "",
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Rebalance nothing. Until `unfreeze`."""

    def order(admin: Admin) -> admin_pb2.FreezeResponse:
        return admin.Freeze(admin_pb2.FreezeRequest(reason=reason), timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda _: "rebalancing is frozen")


def unfreeze(seed: SeedOption = "", output: FormOption = Form.TABLE) -> None:
    """Take back `freeze`."""

    def order(admin: Admin) -> admin_pb2.UnfreezeResponse:
        return admin.Unfreeze(admin_pb2.UnfreezeRequest(), timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda _: "rebalancing goes on")


def events(seed: SeedOption = "", output: FormOption = Form.TABLE) -> None:
    """Show what happens, as one seed sees it, one line for each event, until Ctrl-C."""
    never, lost, shown_ms, after_ms = Event(), False, 0, 0
    with reporting(output):
        while True:
            try:
                with connected(seed) as channel:
                    stub = admin_pb2_grpc.AdminStub(channel)
                    for event in stub.WatchEvents(admin_pb2.WatchEventsRequest()):
                        lost = False
                        if event.time_ms > after_ms:  # another seed may tell it again
                            show_answer(event, output, phrases.event)
                            shown_ms = event.time_ms
            except (Failure, grpc.RpcError) as error:
                failure = error if isinstance(error, Failure) else of_rpc(error)
                if not shown_ms or failure.code != "UNAVAILABLE":
                    raise  # it never began, or is refused
                if not lost:
                    show(failure, output)
                lost, after_ms = True, shown_ms
            never.wait(RETRY_S)


def shards_of(text: str) -> list[int]:
    """The numbers of `3,7-9`; raises `Failure` if the text is something else."""
    wanted: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdecimal() and int(end) < MAX_SHARD for end in ends):
            raise wrong_usage(f"SHARD: found {text!r}, expected a number, a range or a list: 3,7-9")
        wanted += range(int(ends[0]), int(ends[1]) + 1)
        if int(ends[1]) < int(ends[0]):
            raise wrong_usage(f"SHARD: found {text!r}, a range that ends before it begins")
    return wanted


def _pin(type_: str, shard: str, node: str, seed: str, output: Form) -> None:
    def order(admin: Admin) -> admin_pb2.PinShardsResponse:
        request = admin_pb2.PinShardsRequest(type=type_, shards=shards_of(shard), node_id=node)
        return admin.PinShards(request, timeout=CALL_LIMIT_S)

    _once(seed, output, order, lambda answer: tables.shard_list(answer.shards))


def _once(seed: str, output: Form, order: Ask[R], shown: Shown[R]) -> None:
    with reporting(output):
        show_answer(ask(seed, order), output, shown)


def _is_empty(answer: admin_pb2.DrainResponse) -> bool:
    return answer.member.shards == 0
