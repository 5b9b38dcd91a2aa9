"""What a service's descriptor must say to be an entity, and which builds may serve side by side."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from seedbed.contract import (
    MethodContract,
    TypeContract,
    from_proto,
    incompatibility,
    merge,
    to_proto,
)
from seedbed.descriptors import contract_from_descriptors, contract_of, descriptor_set
from seedbed.errors import ContractError, ProtocolError
from seedbed.keys import KeyKind, KeyPath
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed.v1.options_pb2 import EntityOptions
from tests.unit.sdk.dynamic import field, file, message, method, service, service_of

F = FieldDescriptorProto
REF = message("Ref", field("device_id", 1, key=True))


def contract(*parts: DescriptorProto | ServiceDescriptorProto) -> TypeContract:
    return contract_of(service_of(*parts))


def refusal(*parts: DescriptorProto | ServiceDescriptorProto) -> str:
    with pytest.raises(ContractError) as raised:
        contract(*parts)
    assert "demo.proto" in str(raised.value)
    return str(raised.value)


def request(*fields: FieldDescriptorProto) -> TypeContract:
    """Contract of a service with one method whose request has these fields."""
    return contract(message("Request", *fields), REF, service(method("Get", "Request")))


def test_a_contract_has_type_service_and_methods_by_name() -> None:
    made = contract(REF, service(method("Get", "Ref"), method("Set", "Ref")))
    assert (made.type, made.service, made.shard_count) == ("thing", "demo.Thing", 0)
    assert made.idle_timeout_s is None
    assert made.snapshot_every == 0
    assert list(made.methods) == ["Get", "Set"]
    assert made.methods["Get"] == MethodContract(
        name="Get",
        path="/demo.Thing/Get",
        key=KeyPath((1,), KeyKind.STRING, False),
        server_streaming=False,
        repeatable=False,
        read_only=False,
    )
    assert made.methods["Get"].key.name == "device_id"


def test_options_of_the_service_are_read() -> None:
    options = EntityOptions(
        type="a.b-9",
        shards=4096,
        idle_timeout=Duration(seconds=1, nanos=5 * 10**8),
        snapshot_every=7,
    )
    made = contract(REF, service(entity=options))
    assert (made.type, made.shard_count, made.idle_timeout_s) == ("a.b-9", 4096, 1.5)
    assert made.snapshot_every == 7


@pytest.mark.parametrize(
    ("level", "streams", "repeatable", "read_only"),
    [
        (None, False, False, False),
        (MethodOptions.IDEMPOTENT, False, True, False),
        (MethodOptions.NO_SIDE_EFFECTS, False, True, True),
        (None, True, True, True),
        (MethodOptions.IDEMPOTENT, True, True, True),
    ],
)
def test_what_a_method_may_do_is_its_idempotency_level_and_streams_only_read(
    level: MethodOptions.IdempotencyLevel.ValueType | None,
    streams: bool,
    repeatable: bool,
    read_only: bool,
) -> None:
    made = contract(REF, service(method("Get", "Ref", level=level, server_streaming=streams)))
    get = made.methods["Get"]
    assert (get.server_streaming, get.repeatable, get.read_only) == (streams, repeatable, read_only)


KEY_TYPES = {
    F.TYPE_STRING: KeyKind.STRING,
    F.TYPE_BYTES: KeyKind.BYTES,
    F.TYPE_UINT64: KeyKind.VARINT,
    F.TYPE_INT64: KeyKind.SIGNED_VARINT,
    F.TYPE_SINT64: KeyKind.ZIGZAG,
    F.TYPE_FIXED32: KeyKind.FIXED32,
    F.TYPE_SFIXED32: KeyKind.SIGNED_FIXED32,
    F.TYPE_FIXED64: KeyKind.FIXED64,
    F.TYPE_SFIXED64: KeyKind.SIGNED_FIXED64,
    F.TYPE_UINT32: KeyKind.VARINT32,
    F.TYPE_INT32: KeyKind.SIGNED_VARINT32,
    F.TYPE_SINT32: KeyKind.ZIGZAG32,
}


@pytest.mark.parametrize(("proto_type", "kind"), KEY_TYPES.items(), ids=str)
@pytest.mark.parametrize("optional", [False, True])
def test_strings_bytes_and_integers_are_keys(
    proto_type: FieldDescriptorProto.Type.ValueType, kind: KeyKind, optional: bool
) -> None:
    made = request(field("id", 7, proto_type, key=True, optional=optional))
    assert made.methods["Get"].key == KeyPath((7,), kind, optional)


@pytest.mark.parametrize("proto_type", [F.TYPE_DOUBLE, F.TYPE_FLOAT, F.TYPE_BOOL])
def test_nothing_else_is_a_key(proto_type: FieldDescriptorProto.Type.ValueType) -> None:
    text = refusal(
        message("Request", field("id", 1, proto_type, key=True)),
        service(method("Get", "Request")),
    )
    assert "demo.Request.id" in text
    assert "string, bytes or integer" in text


def test_a_key_may_sit_in_a_nested_message() -> None:
    made = contract(
        REF,
        message("Middle", field("note", 1), field("ref", 2, of="Ref")),
        message("Request", field("middle", 16, of="Middle")),
        service(method("Get", "Request")),
    )
    assert made.methods["Get"].key == KeyPath((16, 2, 1), KeyKind.STRING, False)
    assert made.methods["Get"].key.name == "middle.ref.device_id"


def test_a_key_may_be_a_member_of_a_oneof() -> None:
    made = contract(
        message("Request", field("id", 1, key=True), field("other", 2), oneof="which"),
        service(method("Get", "Request")),
    )
    assert made.methods["Get"].key == KeyPath((1,), KeyKind.STRING, True)


def test_a_message_inside_itself_has_one_key() -> None:
    made = contract(
        message("Node", field("id", 1, key=True), field("parent", 2, of="Node")),
        service(method("Get", "Node")),
    )
    assert made.methods["Get"].key.fields == (1,)


def test_keys_inside_repeated_messages_do_not_count() -> None:
    made = request(field("id", 1, key=True), field("refs", 2, of="Ref", repeated=True))
    assert made.methods["Get"].key.fields == (1,)


def test_a_request_without_a_key_is_refused() -> None:
    text = refusal(
        REF,
        message("Request", field("refs", 1, of="Ref", repeated=True)),
        service(method("Get", "Request")),
    )
    assert "demo.Thing.Get" in text
    assert "demo.Request" in text
    assert "(seedbed.v1.key) = true" in text


def test_a_request_with_two_keys_is_refused() -> None:
    text = refusal(
        REF,
        message("Request", field("source", 1, of="Ref"), field("target", 2, of="Ref")),
        service(method("Get", "Request")),
    )
    assert "source.device_id and target.device_id" in text


def test_a_repeated_key_is_refused() -> None:
    text = refusal(
        message("Request", field("ids", 1, key=True, repeated=True)),
        service(method("Get", "Request")),
    )
    assert "demo.Request.ids is repeated" in text


def test_client_streaming_is_refused() -> None:
    text = refusal(REF, service(method("Get", "Ref", client_streaming=True)))
    assert "demo.Thing.Get" in text
    assert "streams from the client" in text


def test_keys_of_two_kinds_are_refused_but_integers_are_one_kind() -> None:
    number = message("Number", field("id", 1, F.TYPE_INT32, key=True))
    wide = message("Wide", field("id", 1, F.TYPE_FIXED64, key=True))
    assert contract(number, wide, service(method("A", "Number"), method("B", "Wide")))
    text = refusal(REF, number, service(method("A", "Ref"), method("B", "Number")))
    assert "methods A and B" in text
    assert "string and integer" in text


def test_a_plain_service_is_refused() -> None:
    plain = service()
    plain.ClearField("options")
    assert "option (seedbed.v1.entity)" in refusal(plain)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (EntityOptions(), "''"),
        (EntityOptions(type="Thing"), "'Thing'"),
        (EntityOptions(type="a\n"), "'a\\n'"),
        (EntityOptions(type="a" * 64), "1 to 63 of a-z 0-9 . -"),
        (EntityOptions(type="a", shards=4097), "4097"),
        (EntityOptions(type="a", idle_timeout=Duration()), "idle_timeout"),
        (EntityOptions(type="a", idle_timeout=Duration(seconds=-1)), "idle_timeout"),
    ],
    ids=["no type", "capitals", "new line", "long", "shards", "no time", "time below 0"],
)
def test_bad_options_are_refused(options: EntityOptions, names: str) -> None:
    text = refusal(REF, service(entity=options))
    assert "demo.Thing" in text
    assert names in text


def test_a_request_that_nests_too_deeply_is_refused() -> None:
    chain = [message(f"M{n}", field("next", 1, of=f"M{n + 1}")) for n in range(40)]
    text = refusal(*chain, message("M40"), service(method("Get", "M0")))
    assert "nested deeper" in text


def test_many_paths_to_a_message_are_looked_at_once() -> None:
    chain = [
        message(f"M{n}", *(field(f"f{i}", i, of=f"M{n + 1}") for i in range(1, 6)))
        for n in range(30)
    ]
    last = message("M30", field("id", 1, key=True))
    assert "more than one key" in refusal(*chain, last, service(method("Get", "M0")))


THING = file(REF, service(method("Get", "Ref")))


def set_of(*files: FileDescriptorProto) -> bytes:
    return FileDescriptorSet(file=files).SerializeToString()


def test_a_descriptor_set_gives_the_same_contract_elsewhere() -> None:
    descriptor = service_of(REF, service(method("Get", "Ref")))
    data = descriptor_set(descriptor)
    assert contract_from_descriptors(data, "demo.Thing") == contract_of(descriptor)
    names = [one.name for one in FileDescriptorSet.FromString(data).file]
    assert names[-1] == "demo.proto"
    assert set(names) == {
        "demo.proto",
        "seedbed/v1/options.proto",
        "google/protobuf/descriptor.proto",
        "google/protobuf/duration.proto",
    }


def test_a_descriptor_set_of_generated_code_holds_its_imports() -> None:
    data = descriptor_set(cluster_pb2.DESCRIPTOR.services_by_name["Cluster"])
    pool = DescriptorPool()
    for one in FileDescriptorSet.FromString(data).file:
        pool.Add(one)
    assert pool.FindServiceByName("seedbed.v1.Cluster")


def test_options_are_read_where_nobody_knows_them() -> None:
    # Without options.proto in the set, both options are unknown fields of their pool.
    lone = FileDescriptorProto()
    lone.CopyFrom(THING)
    lone.ClearField("dependency")
    descriptors = set_of(*FileDescriptorSet.FromString(known_imports()).file, lone)
    assert contract_from_descriptors(descriptors, "demo.Thing").type == "thing"


def known_imports() -> bytes:
    """Only descriptor.proto: not our options."""
    everything = FileDescriptorSet.FromString(descriptor_set(service_of(REF, service())))
    return set_of(*(f for f in everything.file if f.name == "google/protobuf/descriptor.proto"))


def test_the_order_of_files_does_not_matter() -> None:
    files = FileDescriptorSet.FromString(descriptor_set(service_of(REF, service()))).file
    assert contract_from_descriptors(set_of(*reversed(files)), "demo.Thing").type == "thing"


def circle() -> bytes:
    return set_of(
        FileDescriptorProto(name="a.proto", dependency=["b.proto"]),
        FileDescriptorProto(name="b.proto", dependency=["a.proto"]),
    )


def bad_options() -> bytes:
    """The entity option's bytes are no EntityOptions."""
    good = set_of(file(service(entity=EntityOptions(type="thing"))))
    bad = good.replace(b"\x0a\x05thing", b"\x0a\x06thing")
    assert bad != good
    return bad


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"",
        set_of(THING),
        circle(),
        bad_options(),
        set_of(FileDescriptorProto(name="a.proto", syntax="proto9")),
        set_of(FileDescriptorProto(message_type=[DescriptorProto(name="1")])),
    ],
)
def test_a_bad_descriptor_set_is_a_contract_error(data: bytes) -> None:
    with pytest.raises(ContractError, match=r"demo\.Thing"):
        contract_from_descriptors(data, "demo.Thing")


@given(st.data())
def test_whatever_a_peer_sends_is_a_contract_or_a_contract_error(data: st.DataObject) -> None:
    good = bytearray(descriptor_set(service_of(REF, service(method("Get", "Ref")))))
    # The interesting file is the last one; descriptor.proto is long.
    places = st.integers(len(good) - 400, len(good) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=3)):
        good[place] = value
    with suppress(ContractError):
        contract_from_descriptors(bytes(good), data.draw(st.sampled_from(["demo.Thing", "x", ""])))


def paths() -> st.SearchStrategy[KeyPath]:
    numbers = st.lists(st.integers(1, (1 << 29) - 1), min_size=1, max_size=3).map(tuple)
    return st.builds(KeyPath, numbers, st.sampled_from(KeyKind), st.booleans(), st.text())


@st.composite
def contracts(draw: st.DrawFn) -> TypeContract:
    names = draw(st.lists(st.text("ABC", min_size=1, max_size=2), max_size=4, unique=True))
    methods = {
        name: MethodContract(
            name,
            f"/demo.Thing/{name}",
            draw(paths()),
            draw(st.booleans()),
            draw(st.booleans()),
            draw(st.booleans()),
        )
        for name in names
    }
    return TypeContract("thing", "demo.Thing", draw(st.integers(0, 4096)), methods)


@given(contracts())
def test_a_contract_comes_back_from_the_wire(made: TypeContract) -> None:
    wire = to_proto(made).SerializeToString()
    back = from_proto(store_pb2.TypeContract.FromString(wire))
    assert back == made
    for name, one in made.methods.items():
        assert back.methods[name].key.name == one.key.name


def test_every_kind_of_key_is_on_the_wire() -> None:
    by_number = {number: name for name, number in store_pb2.KeyKind.items()}
    assert by_number == {0: "KEY_KIND_UNSPECIFIED"} | {
        kind.value: f"KEY_KIND_{kind.name}" for kind in KeyKind
    }


@pytest.mark.parametrize(
    "wire",
    [
        store_pb2.MethodContract(name="Get"),
        store_pb2.MethodContract(name="Get", key_path=[1]),
        store_pb2.MethodContract(name="Get", key_kind=store_pb2.KEY_KIND_STRING),
        store_pb2.MethodContract(name="Get", key_path=[0], key_kind=store_pb2.KEY_KIND_STRING),
    ],
    ids=["nothing", "no kind", "no path", "field number 0"],
)
def test_a_contract_without_a_readable_key_is_a_protocol_error(
    wire: store_pb2.MethodContract,
) -> None:
    with pytest.raises(ProtocolError, match="Get"):
        from_proto(store_pb2.TypeContract(type="thing", methods=[wire]))


def build(
    *,
    type_: str = "thing",
    service_: str = "demo.Thing",
    shards: int = 0,
    **methods: tuple[KeyPath, bool],
) -> TypeContract:
    made = {
        name: MethodContract(name, f"/{service_}/{name}", key, streams, False, False)
        for name, (key, streams) in methods.items()
    }
    return TypeContract(type_, service_, shards, made)


def key(kind: KeyKind = KeyKind.STRING, *fields: int, presence: bool = False) -> KeyPath:
    return KeyPath(fields or (1,), kind, presence)


OLD = build(shards=1024, Get=(key(), False))


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        build(Get=(key(), False)),
        build(Set=(key(KeyKind.STRING, 2), True)),
        build(),
        build(Get=(key(presence=True), False), Set=(key(), False)),
    ],
    ids=["itself", "no count", "another method", "no method", "one method more"],
)
def test_added_and_missing_methods_are_compatible_in_both_directions(new: TypeContract) -> None:
    assert incompatibility(OLD, new) is None
    assert incompatibility(new, OLD) is None


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (build(type_="other"), "thing and other"),
        (build(service_="demo.Other"), "demo.Other"),
        (build(shards=512), "512"),
        (build(Get=(key(KeyKind.STRING, 2), False)), "Get: the key was field 1, now it is 2"),
        (build(Get=(key(KeyKind.STRING, 1, 1), False)), "now it is 1.1"),
        (build(Get=(key(KeyKind.BYTES), False)), "was string, now it is bytes"),
        (build(Get=(key(), True)), "unary and streaming"),
        (build(Set=(key(KeyKind.VARINT), False)), "string and integer"),
    ],
)
def test_what_one_cluster_cannot_serve_is_named(new: TypeContract, says: str) -> None:
    text = incompatibility(OLD, new)
    assert text is not None
    assert says in text
    assert incompatibility(new, OLD) is not None


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (KeyKind.VARINT32, KeyKind.VARINT),
        (KeyKind.SIGNED_VARINT32, KeyKind.SIGNED_VARINT),
        (KeyKind.ZIGZAG32, KeyKind.ZIGZAG),
    ],
)
def test_an_integer_may_become_wider_and_the_wider_is_read(narrow: KeyKind, wide: KeyKind) -> None:
    old, new = build(Get=(key(narrow), False)), build(Get=(key(wide), False))
    for one, other in ((old, new), (new, old)):
        assert incompatibility(one, other) is None
        assert merge(one, other).methods["Get"].key.kind is wide
    assert merge(old, old).methods["Get"].key.kind is narrow


@pytest.mark.parametrize("other", [KeyKind.VARINT, KeyKind.ZIGZAG, KeyKind.SIGNED_FIXED64])
def test_other_integers_are_not_compatible(other: KeyKind) -> None:
    old, new = build(Get=(key(KeyKind.SIGNED_VARINT), False)), build(Get=(key(other), False))
    assert incompatibility(old, new) is not None


def test_merging_keeps_the_methods_of_both_and_the_known_count() -> None:
    new = build(Set=(key(), False))
    merged = merge(OLD, new)
    assert list(merged.methods) == ["Get", "Set"]
    assert merged.shard_count == 1024


def test_merging_takes_what_the_newer_build_says() -> None:
    new = build(Get=(key(presence=True), False))
    assert merge(OLD, new).methods["Get"].key.presence
    assert merge(new, OLD).methods["Get"].key.presence


@given(contracts(), contracts())
def test_compatibility_does_not_depend_on_who_came_first(
    one: TypeContract, other: TypeContract
) -> None:
    first, second = incompatibility(one, other), incompatibility(other, one)
    assert (first is None) == (second is None)
