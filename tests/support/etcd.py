"""Real etcd processes on loopback, and ways to hurt them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc.aio

from seedbed_seed.etcd import EtcdStore, TlsFiles
from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.store import Entry, Get, StoreError

ROOT = Path(__file__).resolve().parents[2]
READY_S = 20.0
EXIT_S = 10.0


@cache
def etcd_binary() -> str:
    """Return the path of etcd; fails loudly where none can be had."""
    run = subprocess.run(
        [ROOT / "scripts" / "get_etcd"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"these tests need etcd\n{run.stderr}"
    return run.stdout.strip()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a member that serves https; with `client_ca` it asks clients for one."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class TestClient(EtcdStore):
    """Our own client with what `etcdctl` is used for in tests."""

    __test__ = False

    async def read_key(self, key: str) -> Entry:
        """Return the entry of a key that is there."""
        (entries,) = (await self.read(Get(key), timeout=10)).answers
        assert entries, f"{key} is not there"
        return entries[0]

    async def exists(self, key: str) -> bool:
        """Tell whether a key is there."""
        return bool((await self.read(Get(key), timeout=10)).answers[0])


@dataclass
class Member:
    """One etcd process and its data."""

    name: str
    folder: Path
    port: int
    peer_port: int
    arguments: list[str]
    scheme: str = "http"
    client_tls: TlsFiles | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / f"{self.name}.etcd"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    async def start(self, *, wait: bool = True) -> None:
        """Start, or start again; `wait` until it answers a linearizable read."""
        await self.gone()
        with self.log.open("ab") as sink:
            self.process = await asyncio.create_subprocess_exec(
                etcd_binary(), *self.arguments, stdout=sink, stderr=sink
            )
        if wait:
            await self.ready()

    def kill(self) -> None:
        """Kill -9 (frozen or not)."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def gone(self) -> None:
        """Wait for the end of a process that was killed."""
        if self.process is not None:
            async with asyncio.timeout(EXIT_S):
                await self.process.wait()

    async def ready(self) -> None:
        """Wait until it answers a linearizable read: it serves, and there is a quorum."""
        try:
            async with (
                asyncio.timeout(READY_S),
                EtcdStore([self.endpoint], self.client_tls) as store,
            ):
                while True:
                    try:
                        await store.read(Get("ready?"), timeout=1)
                    except StoreError:
                        assert self.process is not None
                        assert self.process.returncode is None, self._log_end()
                        continue
                    return
        except TimeoutError:
            raise AssertionError(f"{self.name} is not ready\n{self._log_end()}") from None

    async def status(self) -> wire.StatusResponse:
        """Return what the member says of itself, without asking the others."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = channel.unary_unary(
                "/etcdserverpb.Maintenance/Status",
                request_serializer=wire.StatusRequest.SerializeToString,
                response_deserializer=wire.StatusResponse.FromString,
            )
            return await stub(wire.StatusRequest(), timeout=2)

    def _signal(self, sign: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} was never started"
        if self.process.returncode is None:
            self.process.send_signal(sign)

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@dataclass
class EtcdCluster:
    """One or more members."""

    members: list[Member]
    client_tls: TlsFiles | None = None

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @asynccontextmanager
    async def store(
        self, *, first: int | None = None, members: Sequence[int] | None = None
    ) -> AsyncGenerator[TestClient, None]:
        """A client of all members (or of these), beginning with the `first` of its list."""
        chosen = self.endpoints if members is None else [self.endpoints[i] for i in members]
        async with TestClient(chosen, self.client_tls, first_endpoint=first) as store:
            yield store

    async def leader(self) -> int:
        """Return the index of the member that leads; waits for one."""
        async with asyncio.timeout(READY_S):
            while True:
                for index, member in enumerate(self.members):
                    try:
                        status = await member.status()
                    except grpc.aio.AioRpcError:
                        continue
                    if status.leader == status.header.member_id:
                        return index
                await asyncio.sleep(0.05)

    async def follower(self) -> int:
        """Return the index of a member that does not lead."""
        leader = await self.leader()
        return next(index for index in range(len(self.members)) if index != leader)

    async def compact(self, revision: int) -> None:
        """Forget what was before this revision."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.members[0].port}") as channel:
            stub = channel.unary_unary(
                "/etcdserverpb.KV/Compact",
                request_serializer=wire.CompactionRequest.SerializeToString,
                response_deserializer=wire.CompactionResponse.FromString,
            )
            await stub(wire.CompactionRequest(revision=revision, physical=True), timeout=10)

    async def snapshot(self, folder: Path) -> None:
        """Copy all members' data as they are at one moment."""
        for member in self.members:
            member.freeze()
        try:
            for member in self.members:
                await asyncio.to_thread(shutil.copytree, member.data, folder / member.name)
        finally:
            for member in self.members:
                member.thaw()

    async def restore(self, folder: Path) -> None:
        """Kill all members, put an earlier copy of their data in its place, start them again."""
        for member in self.members:
            member.kill()
        for member in self.members:
            await member.gone()
            await asyncio.to_thread(shutil.rmtree, member.data)
            await asyncio.to_thread(shutil.copytree, folder / member.name, member.data)
        await self.start()

    async def lose(self) -> None:
        """Kill all members, delete their data, start them empty."""
        for member in self.members:
            member.kill()
        for member in self.members:
            await member.gone()
            await asyncio.to_thread(shutil.rmtree, member.data)
        await self.start()

    async def start(self) -> None:
        """Start all members and wait for each."""
        for member in self.members:
            await member.start(wait=False)
        for member in self.members:
            await member.ready()


@asynccontextmanager
async def etcd_cluster(
    members: int,
    folder: Path,
    *,
    fast: bool = False,
    tls: ServerTls | None = None,
    client_tls: TlsFiles | None = None,
    extra: Sequence[str] = (),
) -> AsyncGenerator[EtcdCluster, None]:
    """Start an etcd of one or more members; `fast` elects in half a second instead of a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    scheme = "https" if tls else "http"
    peers = {f"m{index}": free_port() for index in range(members)}
    running = EtcdCluster(
        [
            Member(name, folder, free_port(), peer_port, [], scheme, client_tls)
            for name, peer_port in peers.items()
        ],
        client_tls,
    )
    common = [
        *("--initial-cluster", ",".join(f"{n}=http://127.0.0.1:{p}" for n, p in peers.items())),
        *("--log-level", "warn", "--auto-compaction-mode", "periodic"),
        *("--auto-compaction-retention", "5m"),
        *(("--heartbeat-interval", "50", "--election-timeout", "500") if fast else ()),
        *(("--cert-file", str(tls.cert), "--key-file", str(tls.key)) if tls else ()),
        *(
            ("--client-cert-auth", "--trusted-ca-file", str(tls.client_ca))
            if tls and tls.client_ca
            else ()
        ),
        *extra,
    ]
    for member in running.members:
        peer = f"http://127.0.0.1:{member.peer_port}"
        member.arguments = [
            *("--name", member.name, "--data-dir", str(member.data)),
            *("--listen-client-urls", member.endpoint),
            *("--advertise-client-urls", member.endpoint),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *common,
        ]
    try:
        await running.start()
        yield running
    finally:
        for member in running.members:
            if member.process is not None:
                member.kill()
        for member in running.members:
            await member.gone()
