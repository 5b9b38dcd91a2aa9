"""Listings as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.table import Table

from seedbed.cli.jsonform import enum_name
from seedbed.v1 import admin_pb2, store_pb2

_ROLE = store_pb2.DESCRIPTOR.enum_types_by_name["Role"]
_STATUS = store_pb2.DESCRIPTOR.enum_types_by_name["MemberStatus"]
_PHASE = store_pb2.DESCRIPTOR.enum_types_by_name["ShardPhase"]


def cluster(response: admin_pb2.GetClusterResponse) -> Table:
    """Of `status`."""
    coordinator = response.coordinator or "none"
    frozen = ", frozen" if response.frozen else ""
    if response.frozen_reason:
        frozen += f": {response.frozen_reason}"
    table = _table("TYPE", "SHARDS", "GENERATION", "WORKERS")
    table.title = f"cluster {response.cluster}, coordinator {coordinator}{frozen}"
    for type_ in response.types:
        generation = str(type_.generation) if type_.generation else "not placed"
        table.add_row(type_.type, str(type_.shard_count), generation, str(type_.workers))
    return table


def members(response: admin_pb2.ListMembersResponse) -> Table:
    """Of `members`."""
    table = _table("NODE", "ROLE", "STATUS", "ADDRESS", "SHARDS", "VERSION", "ZONE", "")
    for member in response.members:
        notes = [
            word
            for word, said in (
                ("coordinator", member.coordinator),
                ("cordoned", member.cordoned),
            )
            if said
        ]
        table.add_row(
            member.node_id,
            str(enum_name(_ROLE, member.role)),
            str(enum_name(_STATUS, member.status)),
            f"{member.host}:{member.port}",
            str(member.shards),
            member.app_version,
            member.zone,
            ", ".join(notes),
        )
    return table


def shards(response: admin_pb2.ListShardsResponse) -> Table:
    """Of `shards TYPE`: one line a shard."""
    return shard_list(response.shards)


def shard_list(found: Iterable[admin_pb2.Shard]) -> Table:
    """Of `move` and `pin` too."""
    table = _table("TYPE", "SHARD", "OWNER", "EPOCH", "PHASE", "NEXT OWNER", "PINNED TO")
    for shard in found:
        table.add_row(
            shard.type,
            str(shard.shard),
            shard.owner or "none",
            str(shard.epoch),
            str(enum_name(_PHASE, shard.phase)),
            shard.next_owner,
            shard.pinned,
        )
    return table


def shards_by_owner(response: admin_pb2.ListShardsResponse) -> Table:
    """Of `shards`: how many each worker owns."""
    table = _table("TYPE", "OWNER", "SHARDS")
    counts = Counter((shard.type, shard.owner) for shard in response.shards)
    for (type_, owner), count in sorted(counts.items()):
        table.add_row(type_, owner or "none", str(count))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    for column in columns:
        numeric = column in {"SHARDS", "SHARD", "EPOCH", "GENERATION", "WORKERS"}
        table.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    return table
