"""What tests of the clients share: an attestor, a relying party, the golden program."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.credential import world
from tests.credential.fake_attestor import FakeAttestor

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "ledger.example.org"
BUILD = ("gcc", "-O2", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("gcc", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture
def start_attestor(tmp_path: Path) -> Iterator[Callable[..., FakeAttestor]]:
    """Start an attestor with the answers given."""
    with ExitStack() as stack:

        def start(**answers: Any) -> FakeAttestor:  # noqa: ANN401
            return stack.enter_context(FakeAttestor(path=tmp_path / "a.sock", **answers))

        yield start


@pytest.fixture
def attestor(start_attestor: Callable[..., FakeAttestor]) -> FakeAttestor:
    """An attestor that grants everything."""
    return start_attestor()


def _compile(directory: Path, *command: str) -> Path:
    program = directory / "payments"
    source = ROOT / "demo" / "payments.c"
    subprocess.run([*command, "-o", program, source, "-lssl", "-lcrypto"], check=True)
    return program


@pytest.fixture(scope="session")
def payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden program, as the demo builds it."""
    return _compile(tmp_path_factory.mktemp("payments"), *BUILD)


@pytest.fixture(scope="session")
def sanitized_payments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden program, which aborts wherever it reads or writes what it should not."""
    return _compile(tmp_path_factory.mktemp("sanitized"), *SANITIZED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Files of a relying party: a CA, a certificate for HOST by it, the verifier's keys."""

    ca: Path
    certificate: Path
    key: Path
    jwks: Path


@pytest.fixture(scope="session")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Site]:
    """Make a CA and a certificate."""

    def make() -> Site:
        directory = tmp_path_factory.mktemp("site")
        ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        ca = _certificate("CA", ca_key.public_key(), by="CA", by_key=ca_key)
        own = _certificate(HOST, key.public_key(), by="CA", by_key=ca_key)
        files = Site(
            ca=directory / "ca.pem",
            certificate=directory / "own.pem",
            key=directory / "key.pem",
            jwks=directory / "keys.json",
        )
        files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        files.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        files.jwks.write_text(json.dumps(world.KEYS.to_jwks()))
        return files

    return make


def _certificate(
    name: str, key: ec.EllipticCurvePublicKey, *, by: str, by_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    is_ca = x509.BasicConstraints(ca=name == by, path_length=None)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(is_ca, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(by_key, hashes.SHA256())
    )


@pytest.fixture(scope="session")
def site(make_site: Callable[[], Site]) -> Site:
    """The relying party's files."""
    return make_site()


@pytest.fixture(scope="session")
def relying_party(site: Site) -> Iterator[str]:
    """The demo's relying party, which allows lab; HOST:PORT where it listens."""
    command = [
        sys.executable, "-m", "demo.relying_party", "--cert", str(site.certificate),
        "--key", str(site.key), "--keys", str(site.jwks),
        "--audience", world.AUDIENCE, "--minimum", "lab", "--allow-lab", "--status-unchecked",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        assert process.stdout is not None
        _, _, host, _, port = process.stdout.readline().split()
        yield f"{host}:{port}"
        process.terminate()
