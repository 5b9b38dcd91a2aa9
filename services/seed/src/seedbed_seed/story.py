"""Membership as a story in the log: joining, up, draining, left, down, with the reason.

Told from the watch, so that each seed's log tells the whole of it, whoever caused an event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from seedbed.v1 import store_pb2

log = logging.getLogger(__name__)

_EVENTS = {
    store_pb2.MEMBER_STATUS_JOINING: "member joining",
    store_pb2.MEMBER_STATUS_UP: "member up",
    store_pb2.MEMBER_STATUS_DRAINING: "member draining",
    store_pb2.MEMBER_STATUS_LEFT: "member left",
}
_ROLES = {store_pb2.ROLE_SEED: "SEED", store_pb2.ROLE_WORKER: "WORKER"}


class MemberStory:
    """Remembers what it told of each incarnation, so that it tells each thing once.

    `told` hears the same as the log: the record, and what it tells in words.
    """

    def __init__(self, told: Callable[[store_pb2.MemberRecord, str], None] | None = None) -> None:
        self._told_too = told
        self._told: dict[str, tuple[int, bool]] = {}

    def seen(self, record: store_pb2.MemberRecord) -> None:
        """A record was written."""
        status, silent = record.member.status, record.HasField("silent")
        known = self._told.get(record.member.incarnation)
        self._told[record.member.incarnation] = (status, silent)
        if known is None or known[0] != status:
            replaced = record.replaced_incarnation
            self._tell(_EVENTS.get(status), record, f"replaces {replaced}" if replaced else "")
        if silent and not (known is not None and known[1]):
            self._tell("member silent", record, f"silent for {record.silent.age_ms} ms")
        elif known is not None and known[1] and not silent:
            self._tell("member resumed", record, "heard again on a new stream")

    def gone(self, record: store_pb2.MemberRecord) -> None:
        """A record was deleted, or its lease ended."""
        status, _ = self._told.pop(record.member.incarnation, (record.member.status, False))
        if status == store_pb2.MEMBER_STATUS_LEFT:
            return
        reason = "silent, then its lease ended or it was seen dead"
        if not record.HasField("silent"):
            reason = "its lease ended"
        self._tell("member down", record, reason)

    def _tell(self, event: str | None, record: store_pb2.MemberRecord, reason: str) -> None:
        if event is None:
            return
        member = record.member
        if self._told_too is not None:
            words = event.replace("member", member.node_id, 1)
            self._told_too(record, f"{words} ({reason})" if reason else words)
        level = logging.WARNING if event in {"member down", "member silent"} else logging.INFO
        log.log(
            level,
            event,
            extra={
                "node": member.node_id,
                "incarnation": member.incarnation,
                "role": _ROLES.get(member.role, ""),
                "address": f"{member.host}:{member.port}",
                "reason": reason,
            },
        )
