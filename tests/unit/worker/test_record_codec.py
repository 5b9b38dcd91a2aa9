"""What stands in a record, as bytes and back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.errors import StateError
from seedbed_worker.record_codec import Part, pack, unpack

NAMES = st.text(st.characters(exclude_categories=["Cs"]))
PARTS = st.lists(st.builds(Part, NAMES, st.binary()))


@given(PARTS)
def test_parts_come_back_as_they_were(parts: list[Part]) -> None:
    assert list(unpack(pack(parts))) == parts


@given(PARTS, st.data())
def test_a_record_that_was_cut_is_refused(parts: list[Part], data: st.DataObject) -> None:
    whole = pack(parts)
    with pytest.raises(StateError):
        unpack(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary())
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    with suppress(StateError):
        assert all(isinstance(part, Part) for part in unpack(data))


def test_another_version_is_refused() -> None:
    with pytest.raises(StateError, match="of version 02, which this release does not read"):
        unpack(b"\x02" + pack([])[1:])


def test_the_bytes_stay_as_they_are() -> None:
    # They are in journals: a change of them needs another version.
    parts = [Part("shop.v1.Added", b"\x00\xff"), Part("", b"")]
    assert pack(parts) == b"\x01\x92\x92\xadshop.v1.Added\xc4\x02\x00\xff\x92\xa0\xc4\x00"
