"""A method that calls another entity and never asks what came of it is warned of."""

from __future__ import annotations

import grpc
import pytest
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed.testing import NeverAwaited, cluster
from tests.unit.testing.bank import Account, Cache, act

TEXT = "called /ledger.v1.Account/Get and never awaited it"


@pytest.mark.parametrize("cls", [Account, Cache])
async def test_it_names_class_method_and_what_was_called(cls: type[Account]) -> None:
    async with cluster(cls) as c:
        with pytest.warns(NeverAwaited, match=f"{cls.__name__}.Act {TEXT}"):
            await rpc.AccountStub(c.channel).Act(act("a", "forget to await"))


async def test_where_warnings_are_errors_the_call_fails_with_its_text() -> None:
    async with cluster(Account) as c:
        with pytest.raises(grpc.aio.AioRpcError, match=TEXT):
            await rpc.AccountStub(c.channel).Act(act("a", "forget to await"))
