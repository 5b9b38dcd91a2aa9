"""The chat in a cluster inside this process."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from chat.room import KEPT_MESSAGES, Room
from chat.user import User
from chat.v1 import chat_pb2 as pb
from chat.v1 import chat_pb2_grpc as pb_grpc

from seedbed import Abort, ServicerContext, join_key, once
from seedbed.testing import Cluster, cluster

ROOM = join_key("acme", "general")


async def join(c: Cluster, *users: str) -> None:
    for user in users:
        await pb_grpc.RoomStub(c.channel).Join(pb.Membership(room_id=ROOM, user=user))


async def say(c: Cluster, user: str, text: str) -> pb.Said:
    utterance = pb.Utterance(room_id=ROOM, user=user, text=text)
    return await pb_grpc.RoomStub(c.channel).Say(utterance)


async def inbox(c: Cluster, user: str) -> list[str]:
    view = await pb_grpc.UserStub(c.channel).ReadInbox(pb.UserRef(user=user))
    return [f"{message.user}: {message.text}" for message in view.messages]


async def test_a_message_comes_to_every_member_and_nobody_else() -> None:
    async with cluster(Room, User, workers=2) as c:
        await join(c, "ann", "bob")
        said = await say(c, "ann", "hello")
        assert (said.message.number, list(said.missed)) == (1, [])
        assert await inbox(c, "ann") == await inbox(c, "bob") == ["ann: hello"]
        assert await inbox(c, "eve") == []


async def test_who_is_not_in_the_room_cannot_speak_there() -> None:
    async with cluster(Room, User) as c:
        await join(c, "ann")
        with pytest.raises(grpc.aio.AioRpcError, match="eve is not in this room") as raised:
            await say(c, "eve", "hello")
        assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_who_left_hears_no_more() -> None:
    async with cluster(Room, User) as c:
        await join(c, "ann", "bob")
        await pb_grpc.RoomStub(c.channel).Leave(pb.Membership(room_id=ROOM, user="bob"))
        await say(c, "ann", "hello")
        assert await inbox(c, "bob") == []


async def test_a_message_that_comes_twice_is_in_the_inbox_once() -> None:
    async with cluster(User) as c:
        users = pb_grpc.UserStub(c.channel)
        message = pb.Message(room_id=ROOM, number=1, user="ann", text="hello", id="call-1")
        for _ in range(2):
            await users.Deliver(pb.Delivery(user="bob", message=message))
        assert await inbox(c, "bob") == ["ann: hello"]


class Deaf(User):
    """bob's inbox fails."""

    async def Deliver(self, request: pb.Delivery, context: ServicerContext) -> pb.Receipt:
        if self.key == "bob":
            raise Abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return await super().Deliver(request, context)


async def test_an_inbox_that_fails_keeps_the_message_from_nobody_else() -> None:
    async with cluster(Room, Deaf) as c:
        await join(c, "ann", "bob", "cleo")
        said = await say(c, "ann", "hello")
        assert list(said.missed) == ["bob"]
        assert await inbox(c, "cleo") == ["ann: hello"]


class Slow(User):
    """Inboxes wait until they may go on."""

    may_go_on = asyncio.Event()

    async def Deliver(self, request: pb.Delivery, context: ServicerContext) -> pb.Receipt:
        await Slow.may_go_on.wait()
        return await super().Deliver(request, context)


async def test_what_was_kept_before_a_call_failed_is_not_said_twice() -> None:
    Slow.may_go_on = asyncio.Event()
    async with cluster(Room, Slow) as c:
        await join(c, "ann")
        rooms, same_call = pb_grpc.RoomStub(c.channel), once("call-1")
        hello = pb.Utterance(room_id=ROOM, user="ann", text="hello")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rooms.Say(hello, timeout=0.1, metadata=same_call)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        Slow.may_go_on.set()
        again = await rooms.Say(hello, metadata=same_call)
        assert (again.message.number, list(again.missed)) == (1, [])
        assert await inbox(c, "ann") == ["ann: hello"]


async def test_a_room_hears_others_while_it_tells_its_members() -> None:
    Slow.may_go_on = asyncio.Event()
    async with cluster(Room, Slow) as c, asyncio.TaskGroup() as tasks:
        await join(c, "ann", "bob")
        said = [tasks.create_task(say(c, user, "hello")) for user in ("ann", "bob")]
        watching = pb_grpc.RoomStub(c.channel).Watch(pb.RoomPosition(room_id=ROOM))
        seen = aiter(watching)
        assert {(await anext(seen)).user, (await anext(seen)).user} == {"ann", "bob"}
        watching.cancel()
        assert not any(task.done() for task in said)
        Slow.may_go_on.set()


async def test_a_room_is_watched_from_any_message_on() -> None:
    async with cluster(Room, User) as c:
        await join(c, "ann")
        for text in ("one", "two"):
            await say(c, "ann", text)
        watching = pb_grpc.RoomStub(c.channel).Watch(pb.RoomPosition(room_id=ROOM, after=1))
        seen = aiter(watching)
        assert (await anext(seen)).text == "two"
        await say(c, "ann", "three")
        assert (await anext(seen)).text == "three"
        watching.cancel()


async def test_a_stream_that_a_move_ended_goes_on_after_its_last_message() -> None:
    async with cluster(Room, User, workers=2) as c:
        rooms = pb_grpc.RoomStub(c.channel)
        await join(c, "ann")
        first = await say(c, "ann", "one")
        watching = aiter(rooms.Watch(pb.RoomPosition(room_id=ROOM)))
        assert (await anext(watching)).text == "one"
        await c.move(Room, ROOM, to=1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await anext(watching)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await say(c, "ann", "two")
        last = first.message.number
        again = rooms.Watch(pb.RoomPosition(room_id=ROOM, after=last))
        assert (await anext(aiter(again))).text == "two"
        again.cancel()


async def test_a_room_keeps_only_the_last_messages() -> None:
    async with cluster(Room, User) as c:
        await join(c, "ann")
        for number in range(KEPT_MESSAGES + 5):
            await say(c, "ann", str(number))
        watching = pb_grpc.RoomStub(c.channel).Watch(pb.RoomPosition(room_id=ROOM))
        assert (await anext(aiter(watching))).text == "5"
        watching.cancel()
