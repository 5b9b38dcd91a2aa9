"""An entity that is made of events, and stores that have them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext
from seedbed_worker.journal.port import Kind, Record, Snapshot
from seedbed_worker.record_codec import Part, pack, unpack
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import GATES


@dataclass
class Items:
    names: list[str] = field(default_factory=list[str])


@dataclass
class Added:
    name: str
    labels: list[str] = field(default_factory=list[str])


class Removed(msgspec.Struct):
    name: str


class Basket(Entity[Items, Added | Removed | pb.Request], rpc.ProbeServicer):
    """Its replies tell what is in it, and whether it exists; `how` has what to do, word by word:
    `+x` adds, `-x` removes, other words stand below."""

    def __init__(self) -> None:
        self.applied = 0

    def apply(self, event: Added | Removed | pb.Request) -> None:
        self.applied += 1
        match event:
            case Added():
                self.state.names.append(event.name)
            case Removed():
                self.state.names.remove(event.name)
            case pb.Request():
                self.state.names.extend(event.how)

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        for word in request.how.split():
            match word:
                case "delete":
                    self.delete()
                case "fail":
                    raise ZeroDivisionError
                case "save":
                    self.save()
                case "touch":
                    self.state.names.append("touched")
                case "passivate":
                    self.passivate()
                case "outside":
                    async with self.outside():
                        await GATES.wait(request.gate)
                case "request":
                    self.emit(pb.Request(how="xyz"))
                case "reuse":
                    event = Added("first")
                    self.emit(event)
                    event.name = "second"
                case "strange":
                    self.emit(pb.Reply())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # what the test is about
                case "unstorable":
                    self.emit(Added("x", [object()]))  # type: ignore[list-item] # pyright: ignore[reportArgumentType] # likewise
                case "spoil":
                    self.state.names.append(object())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # likewise
                case "hide":
                    with suppress(ValueError):
                        self.emit(Removed("never there"))
                case _:
                    self.emit(Added(word[1:]) if word[0] == "+" else Removed(word[1:]))
        return self.answer()

    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        self.emit(Added("w"))
        return self.answer()

    async def Read(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        return self.answer()

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        self.emit(Added("from a reader"))
        return self.answer()

    def answer(self) -> pb.Reply:
        return pb.Reply(
            total=self.applied,
            seq=self.seq,
            text=f"{' '.join(map(str, self.state.names))}|{self.exists}",
        )


class Watched(Store):
    """Shows what is in it."""

    def kinds(self, key: str = "a") -> list[Kind]:
        return [one.kind for one in self.records(key)]

    def parts(self, key: str = "a") -> list[Sequence[Part]]:
        """Of each record, in order."""
        return [unpack(one.data) if one.data else () for one in self.records(key)]

    def records(self, key: str = "a") -> list[Record]:
        return self._entities["probe", key].records

    def snapshot_of(self, key: str = "a") -> Snapshot | None:
        return self._entities["probe", key].snapshot

    def put(self, kind: Kind, *parts: tuple[str, bytes], key: str = "a") -> None:
        """A record that another build wrote."""
        self.put_bytes(kind, pack([Part(*part) for part in parts]), key=key)

    def put_bytes(self, kind: Kind, data: bytes, *, key: str = "a") -> None:
        there = self._entities["probe", key]
        there.write(Record(key, len(there.records) + 1, kind, data, time_ms=0))
