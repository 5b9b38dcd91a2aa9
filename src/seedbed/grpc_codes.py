"""gRPC's names for what the rest of Seedbed knows as numbers."""

from __future__ import annotations

from typing import Final

import grpc

_BY_NUMBER: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


def code_of_number(number: int) -> grpc.StatusCode:
    """The enum member of a status number; UNKNOWN for one that gRPC does not have."""
    return _BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)


def number_of_code(code: grpc.StatusCode) -> int:
    """The number of a status."""
    number: int = code.value[0]
    return number
