"""What is stored is read by `decode`: renamed, re-shaped, unknown and damaged data."""

from __future__ import annotations

import logging

import msgspec
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity
from seedbed_worker.journal.port import Kind
from tests.unit.worker.commits_world import does
from tests.unit.worker.events_world import Added, Basket, Items, Removed, Watched
from tests.unit.worker.host_world import Probe, Total, refused, world

pack = msgspec.msgpack.encode


class Newer(Basket):
    """Its events once had other names and shapes."""

    def apply(self, event: Added | Removed | pb.Request) -> None:
        super().apply(event)

    @classmethod
    def decode(cls, name: str, data: bytes) -> Items | Added | Removed | pb.Request:
        match name:
            case "Put":
                return Added(msgspec.msgpack.decode(data, type=str))
            case "Bag":
                return Items([*msgspec.msgpack.decode(data, type=str)])
            case "wrong":
                return None  # type: ignore[return-value] # pyright: ignore[reportReturnType] # what the test is about
            case "broken":
                raise ZeroDivisionError
            case _:
                return super().decode(name, data)


async def test_events_and_states_of_another_shape_are_read_by_decode() -> None:
    store = Watched()
    store.put(Kind.STATE, ("Bag", pack("ab")))
    store.put(Kind.EVENTS, ("Put", pack("c")), ("Added", pack({"name": "d"})))
    async with world(Newer, store=store) as w:
        found = await w.read()
        assert (found.text, found.seq) == ("a b c d|True", 2)
        await does(w, "-a passivate")
        assert (await w.read()).text == "b c d|True"
    assert [part.name for part in store.parts()[-1]] == ["Removed"]


class NewerState(Probe, durable=True):
    @classmethod
    def decode(cls, name: str, data: bytes) -> Total:
        if name == "Sum":
            return Total(int(data))
        found = super().decode(name, data)
        assert isinstance(found, Total)
        return found


async def test_a_saved_state_is_read_by_decode_too() -> None:
    store = Watched()
    store.put(Kind.STATE, ("Sum", b"41"))
    async with world(NewerState, store=store) as w:
        assert (await w.write(amount=1)).total == 42
        await w.run(w.call("Act", how="passivate"))
        assert (await w.read()).total == 42
    assert [part.name for part in store.parts()[-1]] == ["Total"]


async def test_a_class_that_saved_its_state_may_go_on_with_events() -> None:
    store = Watched()
    store.put(Kind.STATE, ("Items", pack({"names": ["old"]})))
    async with world(Basket, store=store) as w:
        await does(w, "+new passivate")
        assert (await w.read()).text == "old new|True"


@pytest.mark.parametrize(
    ("kind", "part", "fault"),
    [
        (
            Kind.EVENTS,
            ("Gone", b""),
            "it is a Gone, and the class has only Added, Removed, probe.v1.Request, Items:"
            " override decode()",
        ),
        (
            Kind.EVENTS,
            ("Added", pack({"name": "x", "price": 1})),
            "Added: these bytes have a field that Added has not: .price (a newer build wrote it)",
        ),
        (
            Kind.STATE,
            ("Items", pack({"names": [], "owner": "me"})),
            "Items: these bytes have a field that Items has not: .owner",
        ),
        (Kind.EVENTS, ("Added", pack({})), "Added: these bytes are no Added"),
        (Kind.EVENTS, ("probe.v1.Request", b"\xff"), "these bytes are no Request"),
        (Kind.EVENTS, ("Removed", pack({"name": "never"})), "apply() of a Removed raised Value"),
        (Kind.EVENTS, ("broken", b""), "decode() of a broken raised ZeroDivisionError"),
        (Kind.EVENTS, ("wrong", b""), "decode() gave a NoneType, expected Added, Removed, Req"),
        (Kind.STATE, ("wrong", b""), "decode() gave a NoneType, expected Items"),
        (Kind.STATE, ("Added", pack({"name": "x"})), "decode() gave a Added, expected Items"),
    ],
)
async def test_what_cannot_be_read_is_refused_with_its_place(
    kind: Kind, part: tuple[str, bytes], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Watched()
    if kind is Kind.EVENTS:
        store.put(Kind.EVENTS, ("Added", pack({"name": "first"})))
    store.put(kind, part)
    number = len(store.records())
    if kind is Kind.EVENTS:
        store.put(Kind.EVENTS, ("Added", pack({"name": "last"})))
    caplog.set_level(logging.ERROR)
    async with world(Newer, store=store) as w:
        told = refused(await w.run(w.call("Read"))).message
        assert f"record {number} cannot be read: " in told
        assert told.endswith("; nothing ran")
        assert (await w.read("another")).text == "|False", "it alone is refused"
    assert f"{__name__}:Newer 'a': record {number} cannot be read: " in caplog.text
    assert fault in caplog.text


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x01\xff", b"\x01\x90"])
async def test_a_damaged_record_is_refused(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = Watched()
    store.put_bytes(Kind.STATE, data)
    async with world(Basket, store=store) as w:
        refused(await w.run(w.call("Read")))
    assert "Basket 'a': record 1 cannot be read: its bytes are" in caplog.text


class Messages(Entity[pb.Reply], rpc.ProbeServicer):
    async def Write(self, request: pb.Request, context: object) -> pb.Reply:
        self.state.total += 1
        self.save()
        return self.state


async def test_protobuf_keeps_fields_of_a_newer_build() -> None:
    newer = pb.Reply(total=1).SerializeToString() + b"\xf8\x07\x2a"  # field 127: 42
    store = Watched()
    store.put(Kind.STATE, ("probe.v1.Reply", newer))
    async with world(Messages, store=store) as w:
        assert (await w.write()).total == 2
    ((part,),) = store.parts()[1:]
    assert part.data.endswith(b"\xf8\x07\x2a")


async def test_a_class_that_gave_up_events_says_that_there_are_some(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Watched()
    store.put(Kind.EVENTS, ("probe.v1.Reply", b""))
    async with world(Messages, store=store) as w:
        refused(await w.run(w.call("Write")))
    assert (
        "Messages 'a': record 1 cannot be read: decode() gave a Reply, expected no" in caplog.text
    )
