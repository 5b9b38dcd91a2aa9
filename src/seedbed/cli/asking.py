"""What the commands share: their options, how they ask a seed, and how they show its answer."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Annotated, TypeAlias, TypeVar

import grpc
import typer
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from seedbed.cli.connection import connected
from seedbed.cli.failure import Failure, Form, of_rpc, reporting, show
from seedbed.cli.jsonform import to_line
from seedbed.v1 import admin_pb2_grpc

SeedOption: TypeAlias = Annotated[
    str, typer.Option("--seed", help="A seed, host:port. Default: SEEDBED_SEEDS.")
]
FormOption: TypeAlias = Annotated[Form, typer.Option("-o", "--output", help="Form of the output.")]
WatchOption: TypeAlias = Annotated[
    bool, typer.Option("--watch", help="Show it again whenever it changes, until Ctrl-C.")
]

WATCH_PERIOD_S = 1.0

R = TypeVar("R", bound=Message)
Ask: TypeAlias = Callable[[admin_pb2_grpc.AdminStub], R]
Shown: TypeAlias = Callable[[R], Table | str]
"""An answer for people."""


def ask(seed: str, question: Ask[R]) -> R:
    """What a seed answers; raises `Failure` or `grpc.RpcError`."""
    with connected(seed) as channel:
        return question(admin_pb2_grpc.AdminStub(channel))


def show_answer(message: R, output: Form, shown: Shown[R]) -> None:
    """Print it, as JSON or for people."""
    if output is Form.JSON:
        print(to_line(message), flush=True)
        return
    text = shown(message)
    if isinstance(text, str):
        print(text, flush=True)
    else:
        Console().print(text)


def listing(seed: str, output: Form, watch: bool, question: Ask[R], shown: Shown[R]) -> None:
    """A command that shows something, once or whenever it changes."""
    with reporting(output):
        message = ask(seed, question)
        show_answer(message, output, shown)
        if watch:
            follow(seed, output, question, shown, message, lambda _: False)


def follow(
    seed: str,
    output: Form,
    question: Ask[R],
    shown: Shown[R],
    last: R,
    over: Callable[[R], bool],
) -> None:
    """Show each change until it is over; an outage is said once and outlasted."""
    never, lost = Event(), False
    while not over(last):
        never.wait(WATCH_PERIOD_S)
        try:
            found = ask(seed, question)
        except (Failure, grpc.RpcError) as error:
            if not lost:
                show(error if isinstance(error, Failure) else of_rpc(error), output)
            lost = True
            continue
        if found != last or lost:
            show_answer(found, output, shown)
        last, lost = found, False
