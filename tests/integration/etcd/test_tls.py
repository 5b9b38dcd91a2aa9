"""TLS and mutual TLS, with files that are replaced while the store is in use."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from seedbed_seed.etcd import EtcdStore, TlsFiles, channels
from seedbed_seed.store import Get, Put, StoreUnreachable
from tests.support.etcd import ServerTls, etcd_cluster
from tests.support.mirror import mirror
from tests.support.proxy import proxy
from tests.support.waiting import until

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ca(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Write a certificate for loopback, for servers and clients, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(name, self.certificate.subject, key.public_key())
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert_file, key_file


def authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(name, subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Authority(folder, name, key, certificate)
    made.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return made


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


async def test_tls_with_an_authority_of_our_own_and_no_other(tmp_path: Path) -> None:
    ours, other = authority(tmp_path, "ours"), authority(tmp_path, "other")
    cert, key = ours.issue("server")
    tls = TlsFiles(str(ours.ca))
    async with (
        etcd_cluster(1, tmp_path / "etcd", tls=ServerTls(cert, key), client_tls=tls) as etcd,
        etcd.store() as store,
        mirror(store, "/w/") as seen,
    ):
        await store.write(Put("/w/a", b""))
        assert await store.grant(1, 30) == await store.renew(1)
        await until("the change", lambda: "/w/a" in seen.entries, within=5)
        async with EtcdStore(etcd.endpoints, TlsFiles(str(other.ca))) as stranger:
            with pytest.raises(StoreUnreachable):
                await stranger.read(Get("/w/a"), timeout=1)
        async with EtcdStore(etcd.endpoints, TlsFiles(str(tmp_path / "absent.pem"))) as lost:
            with pytest.raises(StoreUnreachable, match="TLS files"):
                await lost.write(Put("/w/a", b""), timeout=1)


async def test_mutual_tls_and_a_certificate_that_is_replaced(tmp_path: Path) -> None:
    ours, other = authority(tmp_path, "ours"), authority(tmp_path, "other")
    server = ServerTls(*ours.issue("server"), client_ca=ours.ca)
    good_cert, good_key = ours.issue("good")
    bad_cert, bad_key = other.issue("bad")
    good = TlsFiles(str(ours.ca), str(good_cert), str(good_key))
    async with etcd_cluster(1, tmp_path / "etcd", tls=server, client_tls=good) as etcd:
        async with EtcdStore(etcd.endpoints, TlsFiles(str(ours.ca))) as anonymous:
            with pytest.raises(StoreUnreachable):
                await anonymous.read(Get("/w/a"), timeout=1)

        cert, key = tmp_path / "used.pem", tmp_path / "used.key"
        shutil.copy(bad_cert, cert)
        shutil.copy(bad_key, key)
        async with EtcdStore(etcd.endpoints, TlsFiles(str(ours.ca), str(cert), str(key))) as store:
            with pytest.raises(StoreUnreachable):
                await store.read(Get("/w/a"), timeout=1)
            shutil.copy(good_cert, cert)
            shutil.copy(good_key, key)
            async with mirror(store, "/w/") as seen:
                await store.write(Put("/w/a", b""), timeout=2)
                await until("the watch", lambda: "/w/a" in seen.entries, within=5)
                # Once the good files are gone, only connections that hold already serve.
                shutil.copy(bad_cert, cert)
                shutil.copy(bad_key, key)
                await store.write(Put("/w/b", b""), timeout=2)
                etcd.members[0].kill()
                await etcd.members[0].start()
                with pytest.raises(StoreUnreachable):
                    await store.read(Get("/w/a"), timeout=1)
                shutil.copy(good_cert, cert)
                shutil.copy(good_key, key)
                await store.write(Put("/w/c", b""), timeout=3)
                await until("the watch", lambda: "/w/c" in seen.entries, within=5)


async def test_replaced_files_are_noticed_while_the_connections_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "RETIRE_GRACE_S", 0.2)
    ours = authority(tmp_path, "ours")
    server = ServerTls(*ours.issue("server"), client_ca=ours.ca)
    cert, key = ours.issue("used")
    tls = TlsFiles(str(ours.ca), str(cert), str(key))
    async with (
        etcd_cluster(1, tmp_path / "etcd", tls=server, client_tls=tls) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([f"https://127.0.0.1:{between.port}"], tls, tls_interval_s=0.1) as store,
        mirror(store, "/w/") as seen,
    ):
        await store.write(Put("/w/a", b""))
        assert await store.grant(1, 30) == await store.renew(1)
        await until("the watch", lambda: "/w/a" in seen.entries, within=5)
        assert between.connections == 1
        ours.issue("used")
        # The streams on the old channel are cut, and the watch is opened again.
        await until("a second connection", lambda: between.connections == 2, within=10)
        await store.write(Put("/w/b", b""))
        await until("the watch", lambda: "/w/b" in seen.entries, within=5)
        assert await store.renew(1) == 30
        assert len(seen.snapshots) == 1
        assert between.connections == 2
