"""The sharding rule is the documented one, for ever."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.sharding import MAX_SHARDS, shard_of

DOC = Path(__file__).parents[3] / "docs" / "sharding.md"


def golden_values() -> list[tuple[str, bytes, int, int]]:
    """Rows of the document's table: key as text, canonical bytes as hex, shards, shard."""
    row = re.compile(r"^\| `(.*)` \| `([0-9a-f ]+)` \| (\d+) \| (\d+) \|$", re.MULTILINE)
    return [
        (text, bytes.fromhex(raw), int(count), int(shard))
        for text, raw, count, shard in row.findall(DOC.read_text(encoding="utf-8"))
    ]


def test_the_document_has_golden_values() -> None:
    assert len(golden_values()) >= 12


@pytest.mark.parametrize(("text", "raw", "count", "shard"), golden_values())
def test_golden_value(text: str, raw: bytes, count: int, shard: int) -> None:
    assert raw == (bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode())
    assert shard_of(raw, count) == shard


def test_crc_32_is_zlibs() -> None:
    assert shard_of(b"123456789", 1 << 32) == 0xCBF43926


@given(st.binary(min_size=1), st.integers(1, MAX_SHARDS))
def test_a_shard_is_below_the_count(key: bytes, count: int) -> None:
    assert 0 <= shard_of(key, count) < count


def test_sequential_ids_spread_evenly() -> None:
    loads = Counter(shard_of(f"device-{n:06}".encode(), 1024) for n in range(102_400))
    assert len(loads) == 1024
    assert max(loads.values()) < 2 * 100
