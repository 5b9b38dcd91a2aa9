"""An asyncio client with `seedbed.Client`, whose calls go straight to the owners.

python -m chat.client --as ann say general hello
python -m chat.client --as ann watch general
python -m chat.client --as ann inbox
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid

import grpc
import grpc.aio

import seedbed
from chat.v1 import chat_pb2 as pb
from chat.v1 import chat_pb2_grpc as pb_grpc

TEAM = "acme"
TIMEOUT_S = 5.0
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
)


async def run(arguments: argparse.Namespace) -> None:
    user: str = arguments.user
    async with seedbed.Client(arguments.entry) as channel:
        rooms, users = pb_grpc.RoomStub(channel), pb_grpc.UserStub(channel)
        if arguments.command == "inbox":
            inbox = await users.ReadInbox(pb.UserRef(user=user), timeout=TIMEOUT_S)
            for message in inbox.messages:
                show(message)
            return
        room_id = seedbed.join_key(TEAM, arguments.room)
        await rooms.Join(pb.Membership(room_id=room_id, user=user), timeout=TIMEOUT_S)
        if arguments.command == "say":
            utterance = pb.Utterance(room_id=room_id, user=user, text=arguments.text)
            said = await say(rooms, utterance)
            show(said.message)
        else:
            await watch(rooms, room_id)


async def say(rooms: pb_grpc.RoomAsyncStub, utterance: pb.Utterance) -> pb.Said:
    """Say it once, also if it must be tried twice."""
    same_call = seedbed.once(str(uuid.uuid4()))
    try:
        return await rooms.Say(utterance, timeout=TIMEOUT_S, metadata=same_call)
    except grpc.aio.AioRpcError as error:
        if error.code() not in PASSING:
            raise
        return await rooms.Say(utterance, timeout=TIMEOUT_S, metadata=same_call)


async def watch(rooms: pb_grpc.RoomAsyncStub, room_id: str) -> None:
    """Show each message once; a stream that a move ended is opened again after the last one."""
    last = 0
    while True:
        try:
            async for message in rooms.Watch(pb.RoomPosition(room_id=room_id, after=last)):
                last = message.number
                show(message)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


def show(message: pb.Message) -> None:
    """Print a message as one line."""
    team, room = seedbed.split_key(message.room_id)
    at = message.at.ToDatetime()
    print(f"{at:%H:%M} {team}/{room} {message.user}: {message.text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Talk in chat rooms.")
    parser.add_argument("--entry", default="", help="seeds, host:port; default: SEEDBED_SEEDS")
    parser.add_argument("--as", dest="user", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("inbox")
    commands.add_parser("watch").add_argument("room")
    say = commands.add_parser("say")
    say.add_argument("room")
    say.add_argument("text")
    try:
        asyncio.run(run(parser.parse_args()))
    except grpc.aio.AioRpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
