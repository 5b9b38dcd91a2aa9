"""The hand-written scanner reads the key that protobuf's own parser would."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seedbed.errors import CallError, Reason
from seedbed.keys import MAX_KEY_BYTES, Key, KeyKind, KeyPath, read_key
from tests.unit.sdk.dynamic import field, file, message, message_of, pool_of

TYPES = {
    KeyKind.STRING: FieldDescriptorProto.TYPE_STRING,
    KeyKind.BYTES: FieldDescriptorProto.TYPE_BYTES,
    KeyKind.VARINT: FieldDescriptorProto.TYPE_UINT64,
    KeyKind.SIGNED_VARINT: FieldDescriptorProto.TYPE_INT64,
    KeyKind.ZIGZAG: FieldDescriptorProto.TYPE_SINT64,
    KeyKind.FIXED32: FieldDescriptorProto.TYPE_FIXED32,
    KeyKind.SIGNED_FIXED32: FieldDescriptorProto.TYPE_SFIXED32,
    KeyKind.FIXED64: FieldDescriptorProto.TYPE_FIXED64,
    KeyKind.SIGNED_FIXED64: FieldDescriptorProto.TYPE_SFIXED64,
    KeyKind.VARINT32: FieldDescriptorProto.TYPE_UINT32,
    KeyKind.SIGNED_VARINT32: FieldDescriptorProto.TYPE_INT32,
    KeyKind.ZIGZAG32: FieldDescriptorProto.TYPE_SINT32,
}
NAMES = {16: "outer", 5: "inner", 3: "key"}
PATHS = ((3,), (5, 3), (16, 5, 3))


def messages(kind: KeyKind, *, presence: bool) -> dict[tuple[int, ...], type[Message]]:
    """Message classes with a key of this kind at each of the paths."""
    leaf = message("Leaf", field("key", 3, TYPES[kind], optional=presence), field("note", 4))
    middle = message("Middle", field("inner", 5, of="Leaf"), field("note", 4))
    top = message("Top", field("outer", 16, of="Middle"), field("note", 4))
    pool = pool_of(file(leaf, middle, top))
    names = ("Leaf", "Middle", "Top")
    return {
        path: GetMessageClass(message_of(pool, name))
        for path, name in zip(PATHS, names, strict=True)
    }


CLASSES = {
    (kind, presence): messages(kind, presence=presence)
    for kind in KeyKind
    for presence in (False, True)
}


def parsed_key(path: KeyPath, request: bytes) -> Key | Reason | None:
    """What protobuf's own parser finds: the key, why there is none, or None if it is no message."""
    try:
        at: Message = CLASSES[path.kind, path.presence][path.fields].FromString(request)
    except DecodeError:
        return None
    for number in path.fields[:-1]:
        if not at.HasField(NAMES[number]):
            return Reason.BAD_KEY
        at = getattr(at, NAMES[number])
    value: str | bytes | int = getattr(at, NAMES[path.fields[-1]])
    match value:
        case "" | b"":
            return Reason.BAD_KEY
        case str() if "\0" in value:
            return Reason.BAD_KEY
        case int() if value == 0 and not (path.presence and at.HasField("key")):
            return Reason.BAD_KEY
        case str() | bytes() if len(value if isinstance(value, bytes) else value.encode()) > 1024:
            return Reason.BAD_KEY
        case str() | int():
            return Key(str(value), str(value).encode())
        case bytes():
            return Key("0x" + value.hex(), value)


def scanned_key(path: KeyPath, request: bytes | memoryview) -> Key | Reason:
    try:
        return read_key(request, path)
    except CallError as error:
        return error.reason


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length(data: bytes) -> bytes:
    return varint(len(data)) + data


def padded(value: int, zeros: int) -> bytes:
    """A varint that is longer than it need be."""
    return bytes([value | 0x80]) + b"\x80" * zeros + b"\0"


def tagged(number: int, wire: int, value: bytes) -> bytes:
    return varint(number << 3 | wire) + value


def in_field(number: int, inner: bytes) -> bytes:
    return varint(number << 3 | 2) + length(inner)


def in_group(number: int, inner: bytes) -> bytes:
    return varint(number << 3 | 3) + inner + varint(number << 3 | 4)


def cut(data: bytes, at: int) -> bytes:
    return data[:at]


NUMBERS = st.sampled_from([3, 1, 4, 5, 15, 16, 2047, (1 << 29) - 1])
EDGES = st.sampled_from([0, 1, 127, 128, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
PADDED = st.builds(padded, st.integers(0, 9), st.integers(0, 9))
VALUES: dict[int, st.SearchStrategy[bytes]] = {
    0: st.one_of(st.integers(0, (1 << 70) - 1).map(varint), EDGES.map(varint), PADDED),
    1: st.binary(min_size=8, max_size=8),
    2: st.one_of(
        st.text(max_size=5).map(lambda text: length(text.encode())),
        st.binary(max_size=5).map(length),
        st.sampled_from([1023, 1024, 1025]).map(lambda size: length(b"k" * size)),
        PADDED.map(lambda size: size + b"k" * (size[0] & 0x7F)),
    ),
    5: st.binary(min_size=4, max_size=4),
}
FIELD = st.one_of(
    [
        st.builds(tagged, NUMBERS, st.just(wire), values_of_wire)
        for wire, values_of_wire in VALUES.items()
    ]
)


def several(fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(fields, max_size=3).map(b"".join)


LEAF = several(FIELD)
MIDDLE = several(
    st.one_of(FIELD, st.builds(in_field, NUMBERS, LEAF), st.builds(in_group, NUMBERS, LEAF))
)
VALID = several(
    st.one_of(FIELD, st.builds(in_field, NUMBERS, MIDDLE), st.builds(in_group, NUMBERS, MIDDLE))
)
CUT = st.builds(cut, VALID, st.integers(0, 60))
KINDS = st.sampled_from(list(KeyKind))


@settings(max_examples=500)
@given(KINDS, st.sampled_from(PATHS), st.booleans(), st.one_of(VALID, CUT, st.binary(max_size=40)))
@example(KeyKind.STRING, (3,), False, b"\x1a\x01a\x1a\x01b")
@example(KeyKind.STRING, (5, 3), False, b"\x2a\x03\x1a\x01a\x2a\x00")
@example(KeyKind.VARINT, (3,), False, b"\x18" + b"\xff" * 9 + b"\x7f")
@example(KeyKind.SIGNED_VARINT32, (3,), False, b"\x18" + b"\xff" * 9 + b"\x01")
@example(KeyKind.VARINT, (3,), False, b"\x18\x01\x00\x01")
@example(KeyKind.STRING, (3,), False, b"\x1a\x81\x80\x80\x80\x80\x00a")
def test_a_scanned_key_is_the_parsed_one(
    kind: KeyKind, fields: tuple[int, ...], presence: bool, request_bytes: bytes
) -> None:
    path = KeyPath(fields, kind, presence)
    scanned = scanned_key(path, request_bytes)
    assert scanned == scanned_key(path, memoryview(request_bytes))
    parsed = parsed_key(path, request_bytes)
    if parsed is not None:  # else it is the worker that refuses what the scanner need not look at
        assert scanned == parsed


def serialised(cls: type[Message], path: tuple[int, ...], value: object) -> bytes:
    whole = cls()
    at: Message = whole
    for number in path[:-1]:
        at = getattr(at, NAMES[number])
        at.SetInParent()
    setattr(at, "note", "x" * 200)  # noqa: B010 - the class is made at run time
    if value is not None:
        setattr(at, NAMES[path[-1]], value)
    return whole.SerializeToString()


def values(kind: KeyKind) -> st.SearchStrategy[str | bytes | int]:
    match kind:
        case KeyKind.STRING:
            return st.text(max_size=1100)
        case KeyKind.BYTES:
            return st.binary(max_size=1100)
        case KeyKind.VARINT | KeyKind.FIXED64:
            return st.integers(0, (1 << 64) - 1)
        case KeyKind.VARINT32 | KeyKind.FIXED32:
            return st.integers(0, (1 << 32) - 1)
        case KeyKind.SIGNED_VARINT | KeyKind.ZIGZAG | KeyKind.SIGNED_FIXED64:
            return st.integers(-(1 << 63), (1 << 63) - 1)
        case KeyKind.SIGNED_VARINT32 | KeyKind.ZIGZAG32 | KeyKind.SIGNED_FIXED32:
            return st.integers(-(1 << 31), (1 << 31) - 1)


@settings(max_examples=200)
@given(st.data(), KINDS, st.sampled_from(PATHS), st.booleans())
def test_requests_written_one_after_another_are_merged_like_protobuf_does(
    data: st.DataObject, kind: KeyKind, fields: tuple[int, ...], presence: bool
) -> None:
    path = KeyPath(fields, kind, presence)
    cls = CLASSES[kind, presence][fields]
    parts = data.draw(st.lists(st.one_of(st.none(), values(kind)), max_size=4))
    request_bytes = b"".join(serialised(cls, fields, value) for value in parts)
    assert scanned_key(path, request_bytes) == parsed_key(path, request_bytes)


def refusal(request: bytes, path: KeyPath) -> CallError:
    with pytest.raises(CallError) as raised:
        read_key(request, path)
    return raised.value


TEXT = KeyPath((1,), KeyKind.STRING, False, "device_id")
DEEP = KeyPath((2, 1), KeyKind.STRING, False, "device.id")


def test_a_strings_text_and_bytes_are_its_own() -> None:
    assert read_key(b"\x0a\x03K\xc3\xb6", TEXT) == Key("Kö", b"K\xc3\xb6")


def test_bytes_have_a_hex_text() -> None:
    path = KeyPath((1,), KeyKind.BYTES, False)
    assert read_key(b"\x0a\x02\x00\xff", path) == Key("0x00ff", b"\x00\xff")


def test_an_integers_bytes_are_its_decimal_digits() -> None:
    path = KeyPath((1,), KeyKind.ZIGZAG, False)
    assert read_key(b"\x08\x03", path) == Key("-2", b"-2")


@pytest.mark.parametrize("path", [TEXT, KeyPath((1,), KeyKind.VARINT, False, "device_id")])
@pytest.mark.parametrize("request_bytes", [b"", b"\x0a\x00", b"\x08\x00"])
def test_an_empty_key_is_refused_by_its_name(path: KeyPath, request_bytes: bytes) -> None:
    error = refusal(request_bytes, path)
    assert error.reason is Reason.BAD_KEY
    assert "device_id" in error.message


def test_without_a_name_the_field_numbers_are_named() -> None:
    assert "2.1" in refusal(b"", KeyPath((2, 1), KeyKind.STRING, False)).message


def test_zero_is_a_key_where_the_field_has_presence() -> None:
    assert read_key(b"\x08\x00", KeyPath((1,), KeyKind.VARINT, True)).text == "0"


def test_a_key_may_have_1024_bytes_and_no_more() -> None:
    size = MAX_KEY_BYTES
    assert read_key(b"\x0a" + length(b"k" * size), TEXT).text == "k" * size
    error = refusal(b"\x0a" + length(b"k" * (size + 1)), TEXT)
    assert error.reason is Reason.BAD_KEY
    assert "1025" in error.message


def test_a_key_that_is_not_utf_8_is_refused() -> None:
    assert refusal(b"\x0a\x01\xff", TEXT).reason is Reason.BAD_KEY
    assert refusal(b"\x0a\x03a\x00b", TEXT).reason is Reason.BAD_KEY


CUT_OFF = {
    "a tag": b"\x8a",
    "a length": b"\x0a",
    "a long length": b"\x0a\x80",
    "a string": b"\x0a\x05abc",
    "a varint": b"\x10\x80",
    "a fixed32": b"\x15abc",
    "a fixed64": b"\x11abc",
    "a group": b"\x0a\x01a\x1b",
    "a string in a group": b"\x1b\x0a\x05a",
}
MALFORMED = {
    "field number 0": b"\x00\x01",
    "field number 0 in a group": b"\x1b\x00\x01",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "the end of no group": b"\x0c",
    "the end of another group": b"\x1b\x24",
    "a tag of eleven bytes": b"\x8a" + b"\x80" * 9 + b"\x00",
    "a tag above 32 bits": b"\xff\xff\xff\xff\x7f",
    "a length above 31 bits": b"\x0a\xff\xff\xff\xff\x0f",
    "a varint of eleven bytes": b"\x10" + b"\x80" * 10 + b"\x00",
    "101 groups": b"\x1b" * 101 + b"\x1c" * 101,
}


@pytest.mark.parametrize("request_bytes", [*CUT_OFF.values(), *MALFORMED.values()])
def test_what_is_no_message_is_a_bad_request(request_bytes: bytes) -> None:
    assert refusal(request_bytes, TEXT).reason is Reason.BAD_REQUEST
    assert refusal(in_field(2, request_bytes), DEEP).reason is Reason.BAD_REQUEST


def test_a_nested_value_may_not_reach_past_its_message() -> None:
    assert refusal(b"\x12\x03\x0a\x04abcdef", DEEP).reason is Reason.BAD_REQUEST


def test_the_whole_message_is_looked_at_behind_the_key() -> None:
    assert refusal(b"\x0a\x01a\x0f", TEXT).reason is Reason.BAD_REQUEST


def test_a_path_needs_field_numbers() -> None:
    for fields in ((), (0,), (1 << 29,)):
        with pytest.raises(ValueError, match="no path"):
            KeyPath(fields, KeyKind.STRING, False)
