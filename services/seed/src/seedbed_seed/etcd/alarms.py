"""Reads etcd's alarms and database size every so often."""

from __future__ import annotations

import asyncio
import logging

from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.etcd.calls import ALARM, STATUS, Calls
from seedbed_seed.store import StoreError

ALARM_INTERVAL_S = 30.0

_log = logging.getLogger(__name__)


class Alarms:
    """What etcd said last about its own health."""

    def __init__(self, calls: Calls, interval_s: float = ALARM_INTERVAL_S) -> None:
        self._calls = calls
        self._interval_s = interval_s
        self.full = False
        """etcd refuses writes for want of space."""
        self.corrupt = False
        """A member's data differs from the others'."""
        self.size_bytes = 0
        """Size of the database of the member asked last."""

    async def run(self) -> None:
        """Read again and again; never ends."""
        while True:
            try:
                await self.read()
            except StoreError as error:
                _log.info("etcd alarms not read: %s", error)
            await asyncio.sleep(self._interval_s)

    async def read(self) -> None:
        """Read once."""
        request = wire.AlarmRequest(action=wire.AlarmRequest.GET, alarm=wire.NONE)
        answer = await self._calls.repeatable(ALARM, request)
        raised = {alarm.alarm for alarm in answer.alarms}
        full, corrupt = wire.NOSPACE in raised, wire.CORRUPT in raised
        if full and not self.full:
            _log.error("etcd raised the NOSPACE alarm: it refuses writes")
        if corrupt and not self.corrupt:
            _log.error("etcd raised the CORRUPT alarm")
        self.full, self.corrupt = full, corrupt
        self.size_bytes = (await self._calls.repeatable(STATUS, wire.StatusRequest())).db_size
