"""A process in memory: what the attestor has seen of it, and the key that was made for it."""
# ruff: noqa: ANN401 - `changes` are fields of any type

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from evidence import tpm
from evidence.canary import Place
from evidence.messages import KnownProcess, NewProcess
from evidence.process import (
    ConfigurationFile,
    CoreRecord,
    Look,
    MappedFile,
    Segment,
    arguments_digest,
    environment_digest,
)
from evidence.process import Mapping as MappedRange
from tests.simulated_keys import sha256
from verifier.node import Known

IDENTITY = "spiffe://example.org/payments"
EXT4 = 0xEF53

PROGRAM = "bin/payments"
PROGRAM_FILES: dict[str, bytes] = {PROGRAM: b"\x7fELF payments"}
ARGUMENTS = (f"/{PROGRAM}", "--serve")
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC"}
CONFIGURATION = ConfigurationFile(
    path="/etc/payments/payments.toml", digest=hashlib.sha256(b"limit = 1").digest(), is_roots=True
)
NO_LAUNCH: dict[str, Any] = {"arguments": b"", "environment": b"", "configuration": ()}
LAUNCH: dict[str, Any] = {
    "arguments": arguments_digest(ARGUMENTS),
    "environment": environment_digest(ENVIRONMENT),
    "configuration": (CONFIGURATION,),
}
"""What the core record says of a launched process, unless a test says otherwise."""


@dataclass(frozen=True, kw_only=True)
class SimulatedProcess:
    """A process that runs, its record, and the key that was made for it."""

    core: CoreRecord
    look: Look
    use_key: ec.EllipticCurvePrivateKey
    public: tpm.Public
    new: NewProcess

    @property
    def key_name(self) -> bytes:
        return self.public.name()

    @property
    def place(self) -> Place:
        return Place(uid=self.core.uid, device=self.look.executable.device)

    def known(self) -> KnownProcess:
        return KnownProcess(key_name=self.key_name, look=self.look)

    def remembered(self, workload: str = IDENTITY) -> Known:
        """Return what a verifier remembers once it has accepted the process."""
        return Known(key_name=self.key_name, core=self.core.encode(), workload=workload)

    def looking(self, **changes: Any) -> "SimulatedProcess":
        """Return the process with another look at it."""
        look = replace(self.look, **changes)
        return replace(self, look=look, new=replace(self.new, look=look))


def mapped_file(path: str, contents: bytes, **changes: Any) -> MappedFile:
    """Return a file as a look shows it."""
    fields: dict[str, Any] = {
        "path": f"/{path}".encode(),
        "digest": sha256(contents),
        "device": 0xFE00,
        "inode": int.from_bytes(sha256(path.encode())[:4]),
        "size": len(contents),
        "links": 1,
        "owner": 0,
        "mode": 0o755,
        "filesystem": EXT4,
        "segments": (Segment(offset=0x1040, address=0x2040, length=0x1F00),),
        "is_movable": True,
    }
    return MappedFile(**(fields | changes))


def text_of(file: int, **changes: Any) -> MappedRange:
    """Return the executable mapping of a file."""
    fields: dict[str, Any] = {
        "file": file,
        "start": 0x400000 + 0x100000 * file,
        "offset": 0x1000,
        "length": 0x2000,
        "anonymous": 0,
        "is_writable": False,
    }
    return MappedRange(**(fields | changes))
