"""The exception with which an entity answers a status from anywhere in a turn."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from seedbed.grpc_codes import number_of_code


class Abort(Exception):
    """Fail the turn, and answer this status: `raise Abort(StatusCode.NOT_FOUND, "no such item")`.

    `details` are messages of `google.rpc` (or any others) that the caller finds in its
    `google.rpc.Status`.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        if code is grpc.StatusCode.OK:
            raise ValueError("Abort fails a turn: return a reply to answer OK")
        super().__init__(code, message, *details)
        self.code = code
        self.message = message
        self.details = details

    def status(self) -> bytes:
        """Return the serialised google.rpc.Status; empty without details."""
        if not self.details:
            return b""
        status = Status(code=number_of_code(self.code), message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return status.SerializeToString()

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"
