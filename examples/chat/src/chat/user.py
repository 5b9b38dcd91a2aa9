"""A user: an inbox that rooms deliver to."""

from __future__ import annotations

from chat.v1 import chat_pb2 as pb
from chat.v1 import chat_pb2_grpc as pb_grpc
from seedbed import Entity, ServicerContext

KEPT_MESSAGES = 50


class User(Entity[pb.UserState], pb_grpc.UserServicer):
    """One user; the key is the user's name."""

    async def Deliver(self, request: pb.Delivery, context: ServicerContext) -> pb.Receipt:
        message = request.message
        if all(kept.id != message.id for kept in self.state.messages):
            self.state.messages.append(message)
            del self.state.messages[:-KEPT_MESSAGES]
            self.save()
        return pb.Receipt()

    async def ReadInbox(self, request: pb.UserRef, context: ServicerContext) -> pb.Inbox:
        return pb.Inbox(messages=self.state.messages)
