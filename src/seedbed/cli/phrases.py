"""Answers of operators' commands, and events, in words for people."""

from __future__ import annotations

from datetime import datetime

from seedbed.cli.jsonform import enum_name
from seedbed.v1 import admin_pb2, store_pb2

_STATUS = store_pb2.DESCRIPTOR.enum_types_by_name["MemberStatus"]
_KIND = admin_pb2.DESCRIPTOR.enum_types_by_name["EventKind"]


def member(found: store_pb2.Member) -> str:
    """Of `cordon` and `uncordon`."""
    status = "not there now" if not found.status else str(enum_name(_STATUS, found.status))
    cordoned = ", cordoned" if found.cordoned else ""
    return f"{found.node_id}: {status}{cordoned}, {found.shards} shards"


def drained(answer: admin_pb2.DrainResponse) -> str:
    """Of `drain`."""
    note = f"\n{answer.note}" if answer.note else ""
    return f"{answer.member.node_id}: draining, {answer.member.shards} shards left{note}"


def rebalance(answer: admin_pb2.RebalanceResponse) -> str:
    """Of `rebalance`."""
    verb = "moving" if answer.applied else "would move"
    lines = [
        f"{verb} {move.type} {move.shard} from {move.from_node} to {move.to_node}"
        for move in answer.moves
    ] or ["nothing to move"]
    lines += [
        f"{spread.type}: spread {spread.before:.2f} now, {spread.after:.2f} after"
        for spread in answer.types
    ]
    if answer.held_back:
        lines.append(f"nothing is moved by itself: {answer.held_back}")
    return "\n".join(lines)


def event(happened: admin_pb2.Event) -> str:
    """Of `events`: one line."""
    at = datetime.fromtimestamp(happened.time_ms / 1000).astimezone()
    kind = str(enum_name(_KIND, happened.kind))
    return f"{at:%H:%M:%S}.{happened.time_ms % 1000:03} {kind:10} {happened.message}"
