"""The census of the movement tests: it reports every effect, because its own state is volatile."""

from __future__ import annotations

import os
import time

from census.v1 import census_pb2 as pb

from tests.support.census import Census, Tally

FILE = "WITNESS_FILE"
"""Environment variable: the file that all workers append to, a line for each effect."""

__all__ = ["FILE", "Tally", "Witness"]


class Witness(Census, durable=False):
    """Appends `key number epoch worker time_ns` (CLOCK_MONOTONIC, one for the machine).

    One short write to a file opened for appending is whole and in order, also among processes;
    what a killed process had written stays.
    """

    _file = -1

    def add(self, number: int) -> pb.Count:
        counted = super().add(number)
        self._report(number)
        return counted

    def _report(self, number: int) -> None:
        if Witness._file < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            Witness._file = os.open(os.environ[FILE], flags, 0o644)
        turn, now_ns = self.turn, time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        line = f"{self.key} {number} {turn.epoch} {turn.worker} {now_ns}\n"
        os.write(Witness._file, line.encode())
