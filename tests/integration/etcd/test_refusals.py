"""What etcd refuses: an ended lease, writes without space."""

from __future__ import annotations

from pathlib import Path

import grpc.aio
import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.store import (
    Get,
    LeaseNotFound,
    Put,
    StoreError,
    StoreFull,
)
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.mirror import mirror
from tests.support.waiting import until

pytestmark = pytest.mark.integration


async def test_a_revoked_lease_is_lost_and_takes_its_keys(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as store,
        etcd.store() as operator,
        mirror(store, "/w/") as seen,
    ):
        await store.grant(5, 60)
        await store.write(Put("/w/a", b"", 5))
        assert await store.renew(5) == 60
        await until("the key", lambda: "/w/a" in seen.entries, within=5)
        await operator.revoke(5)
        assert await store.renew(5) == 0
        await until("its end", lambda: not seen.entries, within=5)
        with pytest.raises(LeaseNotFound):
            await store.write(Put("/w/a", b"", 5))
        assert await store.grant(5, 60) == 60


async def test_an_etcd_without_space_is_a_named_state(tmp_path: Path) -> None:
    quota = 4 * 1024 * 1024
    async with (
        etcd_cluster(1, tmp_path, extra=["--quota-backend-bytes", str(quota)]) as etcd,
        EtcdStore(etcd.endpoints, alarm_interval_s=0.2) as store,
    ):
        await until("alarms were read", lambda: store.size_bytes() > 0, within=5)
        assert not store.full()

        async def fill() -> None:
            for number in range(20):
                await store.write(Put(f"/w/{number}", b"x" * 1_000_000), timeout=5)

        with pytest.raises(StoreFull):
            await fill()
        assert store.full()
        with pytest.raises(StoreFull):
            await store.grant(1, 30)
        assert (await store.read(Get("/w/0"))).answers[0]
        async with EtcdStore(etcd.endpoints, alarm_interval_s=0.2) as other:
            await until("another seed knows it too", other.full, within=5)
        await disarm(etcd)
        await until("it has room again", lambda: not store.full(), within=5)


async def disarm(etcd: EtcdCluster) -> None:
    """Switch the alarm off, as an operator does (without making room)."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{etcd.members[0].port}") as channel:
        stub = channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=wire.AlarmRequest.SerializeToString,
            response_deserializer=wire.AlarmResponse.FromString,
        )
        raised = await stub(wire.AlarmRequest(action=wire.AlarmRequest.GET), timeout=5)
        for alarm in raised.alarms:
            await stub(
                wire.AlarmRequest(
                    action=wire.AlarmRequest.DEACTIVATE,
                    member_id=alarm.member_id,
                    alarm=alarm.alarm,
                ),
                timeout=5,
            )


async def test_a_store_outside_of_its_scope_says_so() -> None:
    store = EtcdStore(["http://127.0.0.1:1"])
    with pytest.raises(StoreError, match="scope"):
        await store.read(Get("/"))
    for endpoints in ([], ["ftp://127.0.0.1:1"], ["https://127.0.0.1:1"]):
        with pytest.raises(ValueError, match="etcd"):
            async with EtcdStore(endpoints):
                pass
