"""The commands of `seedbed`: what each takes, asks and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from seedbed.cli import INSTALL, operations, protoc, reflection, tables
from seedbed.cli.asking import FormOption, SeedOption, WatchOption, listing
from seedbed.cli.connection import CALL_LIMIT_S, connected
from seedbed.cli.failure import Form, refused, reporting, wrong_usage
from seedbed.cli.gen import Mistakes, generate
from seedbed.cli.jsonform import to_line, to_text
from seedbed.cli.up import UpOptions, run_up
from seedbed.v1 import admin_pb2, admin_pb2_grpc

app = typer.Typer(
    name="seedbed",
    help="Sharded stateful entities over gRPC.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

operations.add_to(app)


@app.callback(invoke_without_command=True)
def seedbed(context: typer.Context) -> None:
    """Sharded stateful entities over gRPC."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def up(
    entities: Annotated[str, typer.Option(help="As SEEDBED_ENTITIES, which is the default.")] = "",
    seeds: Annotated[int, typer.Option(min=1, max=9)] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64)] = 2,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps etcd's data and the logs. Default: a temporary one."),
    ] = None,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Any free ports, also for the first seed.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C."""
    options = UpOptions(entities, seeds, workers, data, free_ports, output)
    with reporting(output):
        raise typer.Exit(run_up(options))


@app.command()
def status(
    seed: SeedOption = "", output: FormOption = Form.TABLE, watch: WatchOption = False
) -> None:
    """Show the cluster: its coordinator and its entity types."""

    def ask(admin: admin_pb2_grpc.AdminStub) -> admin_pb2.GetClusterResponse:
        return admin.GetCluster(admin_pb2.GetClusterRequest(), timeout=CALL_LIMIT_S)

    listing(seed, output, watch, ask, tables.cluster)


@app.command()
def members(
    seed: SeedOption = "", output: FormOption = Form.TABLE, watch: WatchOption = False
) -> None:
    """Show the seeds and workers."""

    def ask(admin: admin_pb2_grpc.AdminStub) -> admin_pb2.ListMembersResponse:
        return admin.ListMembers(admin_pb2.ListMembersRequest(), timeout=CALL_LIMIT_S)

    listing(seed, output, watch, ask, tables.members)


@app.command()
def shards(
    type_: Annotated[str, typer.Argument(metavar="[TYPE]")] = "",
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
    watch: WatchOption = False,
) -> None:
    """Show who owns the shards of a type, or how many each worker owns of every type."""

    def ask(admin: admin_pb2_grpc.AdminStub) -> admin_pb2.ListShardsResponse:
        request = admin_pb2.ListShardsRequest(type=type_)
        response = admin.ListShards(request, timeout=CALL_LIMIT_S)
        if type_ and not response.shards:
            _check_type(admin, type_)
        return response

    listing(seed, output, watch, ask, tables.shards if type_ else tables.shards_by_owner)


@app.command()
def call(
    method: Annotated[str, typer.Argument(metavar="SERVICE/METHOD")],
    request: Annotated[str, typer.Argument(metavar="JSON", help="`-`: from stdin.")] = "{}",
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", help="Metadata, name:value.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds. Default: 10 for a unary call, none for a stream."),
    ] = None,
    seed: SeedOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Call a method of an entity, by the server's reflection."""
    text = sys.stdin.read() if request == "-" else request
    form = to_line if output is Form.JSON else to_text
    with reporting(output):
        metadata = tuple(_metadata(pair) for pair in header or ())
        with connected(seed) as channel:
            found = reflection.Reflection(channel).method(method)
            limit = timeout if found.server_streaming else timeout or CALL_LIMIT_S
            for reply in reflection.invoke(
                channel, found, reflection.parse(found, text), timeout=limit, metadata=metadata
            ):
                print(form(reply), flush=True)


@app.command()
def gen(
    protos: Annotated[
        Path, typer.Argument(metavar="PROTO_DIR", help="Where the imports of its files begin.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; to be on PYTHONPATH.")],
) -> None:
    """Generate modules and typed stubs from all .proto files of a folder."""
    with reporting(Form.TABLE):
        if missing := protoc.missing():
            raise wrong_usage(f"{', '.join(missing)} not installed; run: {INSTALL}")
        try:
            done = generate(protos, out)
        except FileNotFoundError as error:
            raise wrong_usage(f"PROTO_DIR: {error}") from None
        except Mistakes as error:
            lines = "\n".join(error.lines)
            raise refused("INVALID_ARGUMENT", f"nothing was written:\n{lines}") from None
    if done.warnings:
        print(done.warnings, file=sys.stderr)
    for type_, service in done.types.items():
        print(f"entity type {type_}: service {service}")
    print(f"{len(done.files)} files written to {out}")


def _check_type(admin: admin_pb2_grpc.AdminStub, type_: str) -> None:
    cluster = admin.GetCluster(admin_pb2.GetClusterRequest(), timeout=CALL_LIMIT_S)
    known = [entry.type for entry in cluster.types]
    if type_ not in known:
        raise refused("NOT_FOUND", f"no entity type {type_!r}; known: {', '.join(known) or 'none'}")


def _metadata(pair: str) -> tuple[str, str]:
    name, colon, value = pair.partition(":")
    if not colon or not name.strip():
        raise wrong_usage(f"--header: found {pair!r}, expected name:value")
    return name.strip().lower(), value.strip()
