"""A whole cluster of real processes: etcd, seeds and workers, and what a seed says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from seedbed.v1 import admin_pb2, admin_pb2_grpc, store_pb2
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.processes import Node, start


@dataclass(frozen=True, repr=False)
class Status:
    """A seed's view: who leads, members by node id, owner and epoch by (type, shard)."""

    coordinator: str
    members: dict[str, store_pb2.Member]
    shards: dict[tuple[str, int], tuple[str, int]]

    def __repr__(self) -> str:
        owned = {owner: len(self.owned_by(owner)) for owner in sorted(self.owners())}
        states = {
            node: store_pb2.MemberStatus.Name(member.status).removeprefix("MEMBER_STATUS_")
            for node, member in self.members.items()
        }
        return f"Status(coordinator={self.coordinator}, members={states}, shards={owned})"

    def is_up(self, node: str, *, but_not: str = "") -> bool:
        """The node is a member and UP, as another incarnation than this one."""
        member = self.members.get(node)
        return (
            member is not None
            and member.status == store_pb2.MEMBER_STATUS_UP
            and member.incarnation != but_not
        )

    def owners(self) -> set[str]:
        return {owner for owner, _ in self.shards.values()}

    def owned_by(self, node: str) -> set[tuple[str, int]]:
        return {shard for shard, (owner, _) in self.shards.items() if owner == node}


@dataclass
class Cluster:
    """Seeds and workers over one etcd, in order of their start."""

    etcd: EtcdCluster
    folder: Path
    entities: str
    seed_env: dict[str, str]
    worker_env: dict[str, str]
    seeds: list[Node] = field(default_factory=list[Node])
    workers: list[Node] = field(default_factory=list[Node])
    _started: int = 0

    def _name(self, role: str) -> str:
        self._started += 1
        return f"{role}-{self._started}"

    async def add_seed(self, *, name: str = "", wait: bool = True, **env: str) -> Node:
        settings = {"SEEDBED_ETCD": ",".join(self.etcd.endpoints), **self.seed_env, **env}
        node = await self._start("seed", name or self._name("seed"), settings)
        self.seeds.append(node)
        return await _ready(node, wait=wait)

    async def add_worker(self, *, name: str = "", wait: bool = True, **env: str) -> Node:
        settings = {
            "SEEDBED_SEEDS": ",".join(seed.grpc for seed in self.seeds),
            "SEEDBED_ENTITIES": self.entities,
            "SEEDBED_JOURNAL": f"sqlite:///{self.folder}/seedbed.db",
            **self.worker_env,
            **env,
        }
        node = await self._start("worker", name or self._name("worker"), settings)
        self.workers.append(node)
        return await _ready(node, wait=wait)

    async def restart(self, node: Node, *, wait: bool = True) -> Node:
        """Start the same node again on the same addresses."""
        ports = {
            "SEEDBED_PORT": node.grpc.rpartition(":")[2],
            "SEEDBED_HTTP_PORT": node.http.rpartition(":")[2],
        }
        new = await self._start(node.role, node.name, node.env | ports)
        nodes = self.seeds if node.role == "seed" else self.workers
        nodes[nodes.index(node)] = new
        return await _ready(new, wait=wait)

    async def _start(self, role: str, name: str, env: dict[str, str]) -> Node:
        """Not waited for: one that is not ready in time is killed with the others."""
        return await start(role, name, env, self.folder, wait=False)

    @property
    def entry(self) -> str:
        """Address of the first seed."""
        return self.seeds[0].grpc

    def node(self, name: str) -> Node:
        return next(node for node in [*self.seeds, *self.workers] if node.name == name)

    async def status(self, seed: Node | None = None) -> Status:
        async with grpc.aio.insecure_channel((seed or self.seeds[0]).grpc) as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            whole = await stub.GetCluster(admin_pb2.GetClusterRequest(), timeout=5)
            members = await stub.ListMembers(admin_pb2.ListMembersRequest(), timeout=5)
            shards = await stub.ListShards(admin_pb2.ListShardsRequest(), timeout=5)
        return Status(
            whole.coordinator,
            {member.node_id: member for member in members.members},
            {(s.type, s.shard): (s.owner, s.epoch) for s in shards.shards if s.owner},
        )

    async def until(
        self,
        what: str,
        holds: Callable[[Status], bool],
        *,
        within: float = 20.0,
        seed: Node | None = None,
    ) -> Status:
        """Poll a seed until a condition on its view holds."""
        seen: Status | str = "nothing"
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        seen = await self.status(seed)
                        if holds(seen):
                            return seen
                    except grpc.aio.AioRpcError as error:
                        seen = str(error)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {within} s: {what}; last seen {seen}") from None

    async def placed(self, workers: int, *, within: float = 20.0) -> Status:
        """Wait until this many workers own all shards."""
        return await self.until(
            f"all shards on {workers} workers",
            lambda status: len(status.owners()) == workers,
            within=within,
        )


@asynccontextmanager
async def cluster(
    folder: Path,
    *,
    seeds: int = 1,
    workers: int = 2,
    etcd_members: int = 1,
    entities: str = "tests.support.census",
    seed_env: Mapping[str, str] | None = None,
    worker_env: Mapping[str, str] | None = None,
) -> AsyncGenerator[Cluster, None]:
    """A running cluster; at the end every process is killed, whatever state it is in."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_cluster(etcd_members, folder / "etcd"))
        # Workers start one after the other; the first one is not to be given everything.
        placement = {"SEEDBED_MIN_WORKERS": str(max(1, workers))}
        running = Cluster(
            etcd, folder, entities, placement | dict(seed_env or {}), dict(worker_env or {})
        )
        stack.push_async_callback(_kill_all, running)
        for _ in range(seeds):
            await running.add_seed()
        for _ in range(workers):
            await running.add_worker()
        yield running


async def _ready(node: Node, *, wait: bool) -> Node:
    if wait:
        await node.ready()
    return node


async def _kill_all(running: Cluster) -> None:
    nodes = [*running.workers, *running.seeds]
    for node in nodes:
        if node.process.returncode is None:
            node.kill()
    for node in nodes:
        await node.exit_code()
