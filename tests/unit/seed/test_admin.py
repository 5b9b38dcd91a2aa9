"""The cluster as tools see it, and the descriptors that reflection gives out."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2

from seedbed.errors import CallError, Reason
from seedbed.transport import BidiMethod, UnaryMethod
from seedbed.v1 import admin_pb2, store_pb2
from seedbed_seed.reflection import PATHS, Reflection
from tests.unit.seed.declared import declaration, hello
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedCall

Ask = reflection_pb2.ServerReflectionRequest


async def ask(seed: Desk, method: str, request: bytes) -> bytes:
    call = ScriptedCall(method=f"/seedbed.v1.Admin/{method}")
    found = seed.admin.find(call.method)
    assert isinstance(found, UnaryMethod)
    return await found.handler(call, request)


async def test_members_come_with_their_shards_and_who_leads() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        worker, _ = await seed.join(hello(incarnation="w1-a"))
        await worker.ack()
        await seed.until("a table", lambda: ("cup", 0) in seed.view.tables)
        data = await ask(seed, "ListMembers", b"")
        one, two = admin_pb2.ListMembersResponse.FromString(data).members
        assert (one.node_id, one.role, one.coordinator) == ("s1", store_pb2.ROLE_SEED, True)
        assert (two.node_id, two.incarnation, two.shards) == ("w1", "w1-a", 16)
        assert two.status == store_pb2.MEMBER_STATUS_UP
        assert not two.coordinator


async def test_the_cluster_names_its_types_with_workers_and_generation() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        data = await ask(seed, "GetCluster", b"")
        assert admin_pb2.GetClusterResponse.FromString(data).cluster == "test"
        worker, _ = await seed.join(hello())
        await worker.ack()
        await seed.until("a table", lambda: ("cup", 0) in seed.view.tables)
        cluster = admin_pb2.GetClusterResponse.FromString(await ask(seed, "GetCluster", b""))
        assert cluster.coordinator == "s1"
        (cup,) = cluster.types
        assert (cup.type, cup.shard_count, cup.workers) == ("cup", 16, 1)
        assert cup.generation == seed.view.tables["cup", 0].generation


async def test_shards_are_listed_before_they_have_owners_too() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        await seed.contracts.register([declaration()])
        await seed.until("the type", lambda: "cup" in seed.view.contracts)
        listed = admin_pb2.ListShardsResponse.FromString(await ask(seed, "ListShards", b""))
        assert [(s.shard, s.owner, s.epoch) for s in listed.shards] == [
            (n, "", 0) for n in range(16)
        ]
        worker, _ = await seed.join(hello())
        await worker.ack()
        await seed.until("a table", lambda: ("cup", 0) in seed.view.tables)
        request = admin_pb2.ListShardsRequest(type="cup").SerializeToString()
        listed = admin_pb2.ListShardsResponse.FromString(await ask(seed, "ListShards", request))
        epoch = seed.view.tables["cup", 0].epoch[0]
        assert {(s.owner, s.epoch, s.phase) for s in listed.shards} == {
            ("w1", epoch, store_pb2.SHARD_PHASE_OWNED)
        }


@pytest.mark.parametrize(
    "request_bytes",
    [admin_pb2.ListShardsRequest(type="mug").SerializeToString(), b"\xff\xff"],
)
async def test_an_unknown_type_and_garbage_are_bad_requests(request_bytes: bytes) -> None:
    async with desk() as seed:
        with pytest.raises(CallError) as raised:
            await ask(seed, "ListShards", request_bytes)
        assert raised.value.reason is Reason.BAD_REQUEST


async def test_other_methods_are_not_admins() -> None:
    async with desk() as seed:
        assert seed.admin.find("/seedbed.v1.Admin/Nothing") is None
        assert seed.admin.find("/seedbed.v1.Cluster/Register") is None


async def test_reflection_lists_the_users_services_and_our_own() -> None:
    async with desk() as seed:
        reflection = Reflection(seed.view)
        for path in PATHS:
            assert isinstance(reflection.find(path), BidiMethod)
        await seed.contracts.register([declaration()])
        await seed.until("the type", lambda: "cup" in seed.view.contracts)
        answer = reflection.answer(Ask(list_services="*"))
        names = [service.name for service in answer.list_services_response.service]
        assert "cups.Cups" in names
        assert "seedbed.v1.Admin" in names


async def test_reflection_knows_the_details_of_our_errors() -> None:
    async with desk() as seed:
        answer = Reflection(seed.view).answer(Ask(file_containing_symbol="google.rpc.ErrorInfo"))
        assert answer.file_descriptor_response.file_descriptor_proto


def builds(seed: Desk) -> int:
    known = seed.view.contracts.get("cup")
    return len(known.message.descriptor_sets) if known is not None else 0


def methods(reflection: Reflection) -> list[str]:
    """Methods of the service as a client that builds a pool from the answer sees them."""
    answer = reflection.answer(Ask(file_containing_symbol="cups.Cups"))
    files = {
        file.name: file
        for file in map(
            descriptor_pb2.FileDescriptorProto.FromString,
            answer.file_descriptor_response.file_descriptor_proto,
        )
    }
    pool = DescriptorPool()

    def add(name: str) -> None:
        file = files.pop(name, None)
        if file is not None:
            for needed in file.dependency:
                add(needed)
            pool.AddSerializedFile(file.SerializeToString())

    for name in tuple(files):
        add(name)
    return [method.name for method in pool.FindServiceByName("cups.Cups").methods]


async def test_the_newest_build_answers_and_older_ones_know_what_it_lacks() -> None:
    async with desk() as seed:
        reflection = Reflection(seed.view)
        await seed.contracts.register([declaration(methods=("Fill", "Old"))])
        await seed.contracts.register([declaration(methods=("Fill", "New"), file="other.proto")])
        await seed.until("both builds", lambda: builds(seed) == 2)
        assert methods(reflection) == ["Fill", "New"]
        old = reflection.answer(Ask(file_containing_symbol="cups.Cups.Old"))
        assert old.HasField("file_descriptor_response")
        assert reflection.answer(Ask(file_by_filename="cups.proto")).HasField(
            "file_descriptor_response"
        )


@pytest.mark.parametrize(
    "request_",
    [
        Ask(file_by_filename="no.proto"),
        Ask(file_containing_symbol="no.Such"),
        Ask(all_extension_numbers_of_type="no.Such"),
        Ask(
            file_containing_extension=reflection_pb2.ExtensionRequest(
                containing_type="no.Such", extension_number=1
            )
        ),
        Ask(),
    ],
    ids=["file", "symbol", "extendee", "extension", "nothing"],
)
async def test_what_reflection_does_not_know_is_not_found(request_: Ask) -> None:
    async with desk() as seed:
        answer = Reflection(seed.view).answer(request_)
        assert answer.error_response.error_code == 5
        assert answer.original_request == request_


async def test_extensions_are_found_by_what_they_extend() -> None:
    async with desk() as seed:
        reflection = Reflection(seed.view)
        await seed.contracts.register([declaration()])
        await seed.until("the type", lambda: "cup" in seed.view.contracts)
        extension = reflection_pb2.ExtensionRequest(
            containing_type="google.protobuf.ServiceOptions", extension_number=54684
        )
        assert reflection.answer(Ask(file_containing_extension=extension)).HasField(
            "file_descriptor_response"
        )
        numbers = reflection.answer(
            Ask(all_extension_numbers_of_type="google.protobuf.FieldOptions")
        ).all_extension_numbers_response
        assert list(numbers.extension_number) == [54685]
