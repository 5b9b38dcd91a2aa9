"""A chat room: keeps its members and the last messages, and tells every member what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc.aio

from chat.v1 import chat_pb2 as pb
from chat.v1 import chat_pb2_grpc as pb_grpc
from seedbed import Abort, Entity, ServicerContext

KEPT_MESSAGES = 100
AT_ONCE = 32
"""Members that are told at the same time."""
DELIVERY_S = 2.0


class Room(Entity[pb.RoomState], pb_grpc.RoomServicer):
    """One room; its key is `join_key(team, room)`."""

    async def Join(self, request: pb.Membership, context: ServicerContext) -> pb.Members:
        if not request.user:
            raise Abort(grpc.StatusCode.INVALID_ARGUMENT, "user is empty")
        if request.user not in self.state.users:
            self.state.users.append(request.user)
            self.save()
        return pb.Members(users=self.state.users)

    async def Leave(self, request: pb.Membership, context: ServicerContext) -> pb.Members:
        if request.user in self.state.users:
            self.state.users.remove(request.user)
            self.save()
        return pb.Members(users=self.state.users)

    async def Say(self, request: pb.Utterance, context: ServicerContext) -> pb.Said:
        if request.user not in self.state.users:
            raise Abort(grpc.StatusCode.PERMISSION_DENIED, f"{request.user} is not in this room")
        message = self.said_before() or self.keep(request)
        users = list(self.state.users)
        async with self.outside():  # it is kept, and others may speak while members are told
            missed = await self.tell(users, message)
        return pb.Said(message=message, missed=missed)

    async def Watch(
        self, request: pb.RoomPosition, context: ServicerContext
    ) -> AsyncIterator[pb.Message]:
        last = request.after
        async for _ in self.changes():
            # Between two items other turns run: give what there is now, and look again after.
            for message in [kept for kept in self.state.messages if kept.number > last]:
                last = message.number
                yield message

    def said_before(self) -> pb.Message | None:
        """A call that failed in `outside()` may come again: what it kept is found by its id."""
        said = self.turn.request_id
        return next((kept for kept in self.state.messages if kept.id == said), None)

    def keep(self, request: pb.Utterance) -> pb.Message:
        self.state.last_number += 1
        message = pb.Message(
            room_id=self.key,
            number=self.state.last_number,
            user=request.user,
            text=request.text,
            id=self.turn.request_id,
        )
        message.at.FromDatetime(self.turn.now)
        self.state.messages.append(message)
        del self.state.messages[:-KEPT_MESSAGES]
        self.save()
        return message

    async def tell(self, users: Iterable[str], message: pb.Message) -> list[str]:
        """Bring a message to everybody's inbox; returns those who could not be reached."""
        inboxes, room = pb_grpc.UserStub(self.channel), asyncio.Semaphore(AT_ONCE)
        missed: list[str] = []

        async def deliver(user: str) -> None:
            async with room:
                try:
                    await inboxes.Deliver(
                        pb.Delivery(user=user, message=message), timeout=DELIVERY_S
                    )
                except grpc.aio.AioRpcError:
                    missed.append(user)

        async with asyncio.TaskGroup() as tasks:
            for user in users:
                tasks.create_task(deliver(user))
        return sorted(missed)
