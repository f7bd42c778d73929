"""A whole node in memory: TPM, kernel, attestor and a process, all of them honest.

`SimulatedNode` makes genuine-looking messages that a verifier accepts; an attack is what a test
changes: a register, a record, a field of a look, the key that signs. No TPM, no kernel, no I/O.

    node = SimulatedNode(name="build-7")
    node.enrol_message(), node.answer(activation)        -> Enrol, ActivationAnswer
    process = node.new_process()                         -> SimulatedProcess
    node.evidence(challenge, new=[process])              -> SignedMessage(Evidence)
    node.evidence(challenge, known=[process])            -> the same, of a process accepted earlier
    node.open_secret(process, id_object, encrypted)      -> what ActivateCredential gives
    node.measure("usr/bin/evil", b"...")                 -> the kernel has seen something else
    node.start_again(), node.reboot()                    -> another instance, another boot
    node.reboot(boot_uki("init=/bin/sh"))                -> a boot of another kind
    node.boot_policy_toml()                              -> what accepts the boot of now
    node.policy(), node.reference_toml(), node.workload_toml()
"""
# ruff: noqa: ANN401 - `changes` are fields of any type

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from evidence import process_key, tpm
from evidence.canary import CanaryReport, Place, digests
from evidence.event_log import ALG_SHA256, Event
from evidence.ima import Record, encode_template
from evidence.messages import (
    INSTANCE_REGISTER,
    QUOTED_REGISTERS,
    Activation,
    ActivationAnswer,
    Body,
    Challenge,
    ChallengeRequest,
    Enrol,
    Evidence,
    Gone,
    GoneProcess,
    HandOver,
    KnownProcess,
    NewProcess,
    SignedMessage,
    Wanted,
    activation_text,
    quote_binding,
)
from evidence.posture import Posture, Presence
from evidence.process import (
    ANY_PURPOSE,
    ATTACHED,
    LAUNCHED,
    NO_ORIGIN,
    ConfigurationFile,
    CoreRecord,
    Look,
    MappedFile,
    Segment,
    arguments_digest,
    environment_digest,
)
from evidence.process import Mapping as MappedRange
from tests.simulated_boot import COMMAND_LINE, boot_uki, log_of
from verifier.boot_policy import encode_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.crypto import activation
from verifier.node import Known, Node
from verifier.policy import Policy, ReferenceSet, build_policy
from verifier.policy.kernel import KernelPolicy
from verifier.reasons import ClockSeen
from verifier.reference import encode_reference, read_reference
from verifier.workload import read_workload

TRUST_DOMAIN = "example.org"
ISSUER = "https://verifier.example.org"
AUDIENCE = "https://ledger.example.org"
IDENTITY = "spiffe://example.org/payments"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FAR = datetime(2049, 1, 1, tzinfo=UTC)
EXT4 = 0xEF53
BOOT_REGISTERS = range(10)
ZERO = bytes(32)

KERNEL_POLICY = b"measure func=BPRM_CHECK\nmeasure func=MMAP_CHECK mask=MAY_EXEC\n"
KERNEL_VERSION = b"6.12.9-cloud-amd64"

SYSTEM_FILES: dict[str, bytes] = {
    "usr/lib/systemd/systemd": b"\x7fELF systemd",
    "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"\x7fELF ld",
    "usr/lib/x86_64-linux-gnu/libc.so.6": b"\x7fELF libc",
    "usr/bin/python3.11": b"\x7fELF python",
}
ATTESTOR_FILES: dict[str, bytes] = {
    "usr/lib/procseal/attestor/__main__.py": b"print('attestor')",
    "usr/lib/procseal/evidence/cbor.py": b"print('cbor')",
}
"""Read by the attestor's uid: register 13."""
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
LIBC = "usr/lib/x86_64-linux-gnu/libc.so.6"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def make_challenge(node: str, /, **changes: Any) -> Challenge:
    """Return a challenge to the node as a verifier would ask it at NOW."""
    fields: dict[str, Any] = {
        "verifier": ISSUER,
        "trust_domain": TRUST_DOMAIN,
        "node": node,
        "nonce": sha256(b"nonce"),
        "expires": int(NOW.timestamp()) + 60,
        "first_record": 0,
        "wants_boot_log": False,
        "canaries": (),
    }
    return Challenge(**(fields | changes))


# Keys


def private_key(seed: str) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(sha256(seed.encode())) >> 1
    return ec.derive_private_key(scalar + 1, ec.SECP256R1())


@cache
def _rsa_key(seed: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return one RSA key per name and run: making one takes a while."""
    assert seed
    return rsa.generate_private_key(65537, bits)


def _point(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    numbers, size = key.public_key().public_numbers(), -(-key.curve.key_size // 8)
    return numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")


def point_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half as an uncompressed point."""
    return b"\x04" + b"".join(_point(key))


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> tuple[bytes, bytes]:
    """Return r and s of 32 bytes each: the same for the same data."""
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(data, algorithm))
    return r.to_bytes(32, "big"), s.to_bytes(32, "big")


HASHES: dict[int, hashes.HashAlgorithm] = {
    tpm.ALG_SHA1: hashes.SHA1(),
    tpm.ALG_SHA256: hashes.SHA256(),
    tpm.ALG_SHA384: hashes.SHA384(),
    tpm.ALG_SHA512: hashes.SHA512(),
}
CURVES: dict[int, ec.EllipticCurve] = {
    tpm.CURVE_P256: ec.SECP256R1(),
    tpm.CURVE_P384: ec.SECP384R1(),
    tpm.CURVE_P521: ec.SECP521R1(),
}


@dataclass(frozen=True)
class AkKind:
    """What an attestation key is, besides restricted."""

    type: int = tpm.ALG_ECC
    size: int = tpm.CURVE_P256
    scheme: int = tpm.ALG_ECDSA
    hash: int = tpm.ALG_SHA256
    name_hash: int = tpm.ALG_SHA256
    salt: Any = padding.PSS.DIGEST_LENGTH


AK_KINDS = {
    "P-256, ECDSA, SHA-256": AkKind(),
    "P-256, ECDSA, SHA-384": AkKind(hash=tpm.ALG_SHA384),
    "P-384, ECDSA, SHA-384": AkKind(
        size=tpm.CURVE_P384, hash=tpm.ALG_SHA384, name_hash=tpm.ALG_SHA384
    ),
    "P-521, ECDSA, SHA-512": AkKind(size=tpm.CURVE_P521, hash=tpm.ALG_SHA512),
    "RSA 2048, RSASSA, SHA-256": AkKind(tpm.ALG_RSA, 2048, tpm.ALG_RSASSA),
    "RSA 2048, RSAPSS, SHA-256": AkKind(tpm.ALG_RSA, 2048, tpm.ALG_RSAPSS),
    "RSA 2048, RSAPSS, long salt": AkKind(
        tpm.ALG_RSA, 2048, tpm.ALG_RSAPSS, salt=padding.PSS.MAX_LENGTH
    ),
    "RSA 3072, RSASSA, SHA-384": AkKind(
        tpm.ALG_RSA, 3072, tpm.ALG_RSASSA, tpm.ALG_SHA384, tpm.ALG_SHA512
    ),
    "RSA 4096, RSASSA, SHA-512": AkKind(tpm.ALG_RSA, 4096, tpm.ALG_RSASSA, tpm.ALG_SHA512),
}
"""Every kind of key that may sign evidence, more or less."""


def make_ak(seed: str, kind: AkKind = AK_KINDS["P-256, ECDSA, SHA-256"]) -> tuple[Any, tpm.Public]:
    """Return an attestation key and its public area."""
    key: Any
    if kind.type == tpm.ALG_RSA:
        key = _rsa_key(f"{seed} ak", kind.size)
        modulus = key.public_key().public_numbers().n
        unique: tuple[bytes, ...] = (modulus.to_bytes(kind.size // 8, "big"),)
    else:
        scalar = int.from_bytes(sha256(f"{seed} ak".encode())) >> 1
        key = ec.derive_private_key(scalar + 1, CURVES[kind.size])
        unique = _point(key)
    return key, tpm.Public(
        type=kind.type,
        name_hash=kind.name_hash,
        attributes=0x50072,
        policy=b"",
        symmetric=tpm.NO_SCHEME,
        scheme=tpm.Scheme(algorithm=kind.scheme, parameters=(kind.hash,)),
        size=kind.size,
        unique=unique,
    )


def make_signature(key: Any, kind: AkKind, data: bytes) -> bytes:
    """Return the key's TPMT_SIGNATURE over any bytes: a restricted key would refuse some."""
    hash_ = HASHES[kind.hash]
    if kind.scheme == tpm.ALG_ECDSA:
        algorithm = ec.ECDSA(hash_, deterministic_signing=True)
        size = -(-key.curve.key_size // 8)
        both = decode_dss_signature(key.sign(data, algorithm))
        values = tuple(one.to_bytes(size, "big") for one in both)
    elif kind.scheme == tpm.ALG_RSASSA:
        values = (key.sign(data, padding.PKCS1v15(), hash_),)
    else:
        values = (key.sign(data, padding.PSS(padding.MGF1(hash_), kind.salt), hash_),)
    return tpm.Signature(scheme=kind.scheme, hash=kind.hash, values=values).encode()


EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def ecc_public(key: ec.EllipticCurvePrivateKey, **changes: Any) -> tpm.Public:
    """Return the public area of a restricted signing key, or of what `changes` makes of it."""
    fields: dict[str, Any] = {
        "type": tpm.ALG_ECC,
        "name_hash": tpm.ALG_SHA256,
        "attributes": 0x50072,
        "policy": b"",
        "symmetric": tpm.NO_SCHEME,
        "scheme": tpm.ECDSA_SHA256,
        "size": tpm.CURVE_P256,
        "unique": _point(key),
    }
    return tpm.Public(**(fields | changes))


STORAGE: dict[str, Any] = {"symmetric": tpm.AES_128_CFB, "scheme": tpm.NO_SCHEME}
EK: dict[str, Any] = {"attributes": 0x300B2, "policy": EK_POLICY, **STORAGE}


# The manufacturer


class SimulatedManufacturer:
    """A CA that says of an EK that it is in one of its TPMs."""

    def __init__(self, name: str = "Simulated TPMs") -> None:
        self.key = private_key(f"manufacturer {name}")
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(self.name, self.key.public_key())
        self.certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self.key, hashes.SHA256())

    def _builder(
        self, subject: x509.Name, key: Any, end: datetime = FAR
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(0x5EA1)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(end)
        )

    def root(self) -> bytes:
        """Return the root certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def certify(
        self, key: Any, *, usage: str = "2.23.133.8.1", ca: bool = False, end: datetime = FAR
    ) -> bytes:
        """Return an EK certificate, DER, valid from 2020 on."""
        oids = {"2.23.133.2.1": "id:53494D55", "2.23.133.2.2": "tpm", "2.23.133.2.3": "id:0001"}
        attributes = [
            x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in oids.items()
        ]
        builder = (
            self._builder(x509.Name([]), key, end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))]),
                critical=True,
            )
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


MANUFACTURER = SimulatedManufacturer()


# The TPM


class SimulatedTpm:
    """Keys, registers and a clock: what a TPM signs of them, and what it opens."""

    def __init__(self, seed: str, *, ek: str = "ecc", ak: AkKind | None = None) -> None:
        self.seed = seed
        self.ak_kind = ak or AkKind()
        self.ak_key, self.ak = make_ak(seed, self.ak_kind)
        self.ek_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if ek == "rsa":
            self.ek_key = _rsa_key(f"{seed} ek")
            modulus = self.ek_key.public_key().public_numbers().n.to_bytes(256, "big")
            self.ek = tpm.Public(
                type=tpm.ALG_RSA, name_hash=tpm.ALG_SHA256, size=2048, unique=(modulus,), **EK
            )
        else:
            self.ek_key = private_key(f"{seed} ek")
            self.ek = ecc_public(self.ek_key, **EK)
        self.firmware_version = 0x2024_0101_0000_0001
        self.clock = 1_000_000
        self.safe = True
        self.reset_count = 7
        self.restart_count = 0
        self.registers = [ZERO] * len(QUOTED_REGISTERS)
        self.created = 0

    def reset(self) -> None:
        """Do what a power cycle does."""
        self.clock += 60_000
        self.reset_count += 1
        self.restart_count = 0
        self.registers = [ZERO] * len(QUOTED_REGISTERS)

    def extend(self, register: int, digest: bytes) -> None:
        """TPM2_PCR_Extend."""
        self.registers[register] = sha256(self.registers[register] + digest)

    def _clock_info(self) -> tpm.ClockInfo:
        self.clock += 1_000
        return tpm.ClockInfo(
            clock=self.clock,
            reset_count=self.reset_count,
            restart_count=self.restart_count,
            safe=self.safe,
        )

    def attest(self, **changes: Any) -> tuple[bytes, bytes]:
        """Return a TPMS_ATTEST and the AK's TPMT_SIGNATURE over it."""
        fields: dict[str, Any] = {
            "qualified_signer": self.ak.qualified_name(tpm.hierarchy_name(tpm.RH_ENDORSEMENT)),
            "extra_data": b"",
            "clock_info": self._clock_info(),
            "firmware_version": self.firmware_version,
        }
        encoded = tpm.Attest(**(fields | changes)).encode()
        return encoded, self.signature(encoded)

    def signature(self, data: bytes) -> bytes:
        """Return the AK's TPMT_SIGNATURE over any bytes: a restricted key would refuse some."""
        return make_signature(self.ak_key, self.ak_kind, data)

    def quote(self, binding: bytes, **changes: Any) -> tuple[bytes, bytes]:
        """TPM2_Quote over sha256:0-15; `changes` are fields of the TPMS_ATTEST."""
        selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=QUOTED_REGISTERS)
        hash_ = tpm.HASHES[self.ak_kind.hash]
        digest = hashlib.new(hash_, b"".join(self.registers)).digest()
        attested = tpm.Quote(selections=(selection,), digest=digest)
        return self.attest(**({"attested": attested, "extra_data": binding} | changes))

    def storage_primary(self) -> tpm.Public:
        """Return the NULL hierarchy's storage primary of this boot."""
        key = private_key(f"{self.seed} null primary {self.reset_count}")
        return ecc_public(key, attributes=process_key.STORAGE_ATTRIBUTES, **STORAGE)

    def create(
        self,
        outside_info: bytes,
        *,
        may_sign: bool = False,
        public: Mapping[str, Any] | None = None,
        **creation: Any,
    ) -> tuple[tpm.Public, bytes]:
        """TPM2_Create of a process key: its public area and TPMS_CREATION_DATA."""
        self.created += 1
        template: dict[str, Any] = {
            "attributes": process_key.ATTRIBUTES,
            "policy": process_key.policy_digest(may_sign=may_sign),
        }
        key = ecc_public(
            private_key(f"{self.seed} process {self.created}"), **(template | dict(public or {}))
        )
        registers = process_key.CREATION_REGISTERS
        parent = self.storage_primary().name()
        fields: dict[str, Any] = {
            "selections": (tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=registers),),
            "digest": sha256(b"".join(self.registers[register] for register in registers)),
            "locality": 1,
            "parent_name_hash": tpm.ALG_SHA256,
            "parent_name": parent,
            "parent_qualified_name": tpm.qualify(parent, tpm.hierarchy_name(tpm.RH_NULL)),
            "outside_info": outside_info,
        }
        return key, tpm.CreationData(**(fields | creation)).encode()

    def activate(self, name: bytes, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential, for an object of this Name; ValueError where a TPM refuses."""
        seed = self._open_seed(encrypted_secret)
        size = int.from_bytes(id_object[:2])
        integrity, identity = id_object[2 : 2 + size], id_object[2 + size :]
        key = activation.kdf_a(seed, b"INTEGRITY", b"", b"", bits=256)
        if not hmac.compare_digest(integrity, hmac.digest(key, identity + name, "sha256")):
            raise ValueError("TPM_RC_INTEGRITY")
        storage_key = activation.kdf_a(seed, b"STORAGE", name, b"", bits=128)
        opened = _open_cfb(storage_key, identity)
        return opened[2 : 2 + int.from_bytes(opened[:2])]

    def _open_seed(self, encrypted: bytes) -> bytes:
        if isinstance(self.ek_key, rsa.RSAPrivateKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
            return self.ek_key.decrypt(encrypted, oaep)
        x, y = encrypted[2:34], encrypted[36:68]
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()
        )
        z = self.ek_key.exchange(ec.ECDH(), numbers.public_key())
        return activation.kdf_e(z, b"IDENTITY", x, _point(self.ek_key)[0])


def _open_cfb(key: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor().update(data)


# The kernel


def make_record(  # noqa: PLR0913
    path: str | bytes,
    digest: bytes,
    *,
    register: int = 10,
    template: str = "ima-sig",
    algorithm: str = "sha256",
    last: bytes = b"",
) -> Record:
    """Return the record of a file with this path and digest."""
    name = path.encode() if isinstance(path, str) else path
    data = encode_template(template, algorithm=algorithm, digest=digest, path=name, last=last)
    return record_of(data, register=register, template=template)


def record_of(data: bytes, *, register: int = 10, template: str = "ima-sig") -> Record:
    """Return the record with this template data, its hash right."""
    template_hash = hashlib.sha1(data, usedforsecurity=False).digest()
    return Record(register=register, template_hash=template_hash, template=template, data=data)


# The process


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


# The node


POSTURE = Posture(
    taint=0,
    lockdown="none",
    is_module_signature_enforced=False,
    is_module_loading_disabled=False,
    is_kexec_disabled=False,
    ptrace_scope=0,
)
"""As a distribution's kernel comes."""


class SimulatedNode:
    """A node whose every part is honest until a test makes it otherwise."""

    def __init__(  # noqa: PLR0913
        self,
        name: str = "build-7",
        *,
        ek: str = "ecc",
        ak: AkKind | None = None,
        manufacturer: SimulatedManufacturer = MANUFACTURER,
        identity: str = IDENTITY,
        audience: str = AUDIENCE,
        minimum: str = "lab",
        needs_canary: bool | None = None,
    ) -> None:
        self.name = name
        self.identity = identity
        self.audience = audience
        self.minimum = minimum
        self.needs_canary = minimum != "lab" if needs_canary is None else needs_canary
        self.manufacturer = manufacturer
        self.tpm = SimulatedTpm(f"tpm of {name}", ek=ek, ak=ak)
        self.posture = POSTURE
        self.critical: tuple[tuple[str, bytes], ...] = ()
        """Names and buffers of what the kernel says of itself before the kernel policy."""
        self.presences: dict[int, set[str]] = {}
        """Cgroups of processes by uid: those of `new_process`, and what a test adds."""
        self.records: list[Record] = []
        self.instances: list[bytes] = []
        self.hand_overs: list[SignedMessage] = []
        self.pid = 800
        self._starts = 0
        self.boot: Sequence[Event] = boot_uki()
        self._boot()

    # Life

    def _boot(self) -> None:
        self.boot_id = f"41c0d9a2-0000-4000-8000-{self.tpm.reset_count:012d}"
        for event in self.boot:
            if event.is_measured:
                self.tpm.extend(event.register, dict(event.digests)[ALG_SHA256])
        self.boot_log = log_of(self.boot).encode()
        self.records = []
        self.instances = []
        self.hand_overs = []
        self.measure_record("boot_aggregate", self.boot_aggregate())
        self.measure_buffer("kernel_version", KERNEL_VERSION)
        for name, data in self.critical:
            self.measure_buffer(name, data)
        self.measure("etc/ima/ima-policy", KERNEL_POLICY)
        for path, contents in SYSTEM_FILES.items():
            self.measure(path, contents)
        for path, contents in ATTESTOR_FILES.items():
            self.measure(path, contents, register=13)
        self.measure(PROGRAM, PROGRAM_FILES[PROGRAM])
        self.start_again()

    def reboot(self, boot: Sequence[Event] | None = None) -> None:
        """Switch off and on, and boot as before or otherwise: nothing but EK and AK stays."""
        self.boot = self.boot if boot is None else boot
        self.tpm.reset()
        self._boot()

    def start_again(self) -> None:
        """Start an attestor: another instance key, one more extension of register 15."""
        self._starts += 1
        self.instance_key = private_key(f"{self.name} instance {self._starts}")
        self.instances.append(self.instance)
        self.tpm.extend(INSTANCE_REGISTER, self.instance)

    def hand_over(self, **changes: Any) -> None:
        """Start an attestor whose key the one before signs; `changes` are the message's fields."""
        earlier_key, earlier = self.instance_key, self.instance
        self.start_again()
        fields = {
            "node": self.name, "boot": self.boot_id, "earlier": earlier, "later": self.instance,
        }  # fmt: skip
        payload = HandOver(**(fields | changes)).encode()
        self.hand_overs.append(self.signed(payload, earlier_key))

    @property
    def instance(self) -> bytes:
        """SHA-256 of the public half of the instance key that speaks."""
        return sha256(point_bytes(self.instance_key))

    def boot_aggregate(self) -> bytes:
        """Return the digest of the list's first record."""
        return sha256(b"".join(self.tpm.registers[register] for register in BOOT_REGISTERS))

    # The kernel's list

    def measure(
        self, path: str, contents: bytes, *, register: int = 10, template: str = "ima-sig"
    ) -> None:
        """Let the kernel measure a file with these contents."""
        self.measure_record(f"/{path}", sha256(contents), register=register, template=template)

    def measure_record(  # noqa: PLR0913
        self,
        path: str,
        digest: bytes,
        *,
        register: int = 10,
        template: str = "ima-sig",
        algorithm: str = "sha256",
        last: bytes = b"",
    ) -> None:
        """Append a record with this path and digest, and extend the register."""
        self.append(
            make_record(
                path,
                digest,
                register=register,
                template=template,
                algorithm=algorithm,
                last=last,
            )
        )

    def measure_buffer(self, name: str, data: bytes, *, register: int = 10) -> None:
        """Append critical data."""
        self.measure_record(name, sha256(data), register=register, template="ima-buf", last=data)

    def violate(self, path: str, *, register: int = 10) -> None:
        """Append a violation."""
        data = encode_template("ima-sig", algorithm="sha256", digest=ZERO, path=path.encode())
        self.append(
            Record(register=register, template_hash=bytes(20), template="ima-sig", data=data)
        )

    def append(self, record: Record) -> None:
        """Append the record and extend its register as the kernel does."""
        self.records.append(record)
        self.tpm.extend(record.register, record.extension("sha256"))

    def relist(self, records: Iterable[Record]) -> None:
        """Let the kernel have written this list instead."""
        for register in (10, 12, 13):
            self.tpm.registers[register] = ZERO
        self.records = []
        for record in records:
            self.append(record)

    # Enrolment

    def ek_certificate(self) -> bytes:
        """Return the EK certificate, DER."""
        return self.manufacturer.certify(self.tpm.ek_key.public_key())

    def ek_intermediates(self) -> tuple[bytes, ...]:
        """Return the certificates that the TPM holds for the chain, DER."""
        return ()

    def enrol_message(self, **changes: Any) -> Enrol:
        """Return the node's introduction."""
        fields: dict[str, Any] = {
            "node": self.name,
            "ek_public": self.tpm.ek.encode(),
            "ek_certificate": self.ek_certificate(),
            "ek_intermediates": self.ek_intermediates(),
            "ak_public": self.tpm.ak.encode(),
        }
        return Enrol(**(fields | changes))

    def answer(self, activation: Activation) -> ActivationAnswer:
        """Open the activation and answer it; ValueError where the TPM does not open it."""
        name = self.tpm.ak.name()
        secret = self.tpm.activate(name, activation.id_object, activation.encrypted_secret)
        text = activation_text(activation.id, self.name, name)
        return ActivationAnswer(id=activation.id, answer=hmac.digest(secret, text, "sha256"))

    def enrolled(self, **changes: Any) -> Node:
        """Return what a verifier knows of the node before its first evidence."""
        fields: dict[str, Any] = {
            "name": self.name,
            "ak_public": self.tpm.ak.encode(),
            "ek_public": self.tpm.ek.encode(),
            "instance": b"",
            "instance_reset_count": 0,
            "approved_instances": (),
            "known": (),
            "clock": None,
        }
        return Node(**(fields | changes))

    def accepted(self, *known: SimulatedProcess, **changes: Any) -> Node:
        """Return what a verifier knows of the node once this instance has been accepted."""
        fields: dict[str, Any] = {
            "instance": self.instance,
            "instance_reset_count": self.tpm.reset_count,
            "known": tuple(process.remembered(self.identity) for process in known),
            "clock": ClockSeen(
                reset_count=self.tpm.reset_count,
                restart_count=self.tpm.restart_count,
                clock=self.tpm.clock,
            ),
        }
        return self.enrolled(**(fields | changes))

    # Processes

    def new_process(
        self,
        *,
        core: Mapping[str, Any] | None = None,
        look: Mapping[str, Any] | None = None,
        creation: Mapping[str, Any] | None = None,
        public: Mapping[str, Any] | None = None,
        program: bytes = PROGRAM_FILES[PROGRAM],
    ) -> SimulatedProcess:
        """Start the golden program and make its key; the mappings change what is said of it."""
        self.pid += 1
        use_key = private_key(f"{self.name} use {self.pid}")
        executable = mapped_file(PROGRAM, program)
        shared: dict[str, Any] = {
            "boot": self.boot_id,
            "pid": self.pid,
            "pidfs_inode": 10_000 + self.pid,
            "start_ticks": 700 + self.pid,
        }
        core_fields: dict[str, Any] = shared | {
            "node": self.name,
            "instance": self.instance,
            "uid": 1001,
            "user": "payments",
            "executable": executable.digest,
            "cgroup": dict(look or {}).get("cgroup", "/system.slice/payments.service"),
            "namespaces": (1, 2, 3),
            "binding": ATTACHED,
            "peer_proof": "pidfs",
            "use_key": b"" if dict(core or {}).get("proof_key") == "tpm" else point_bytes(use_key),
            "script": "",
            "modules": b"",
            "identity": self.identity,
            "proof_key": "attestor",
            "purpose": ANY_PURPOSE,
            "origin": NO_ORIGIN,
        }
        core_fields |= dict(core or {})
        if core_fields["binding"] == LAUNCHED:
            core_fields = LAUNCH | core_fields
        record = CoreRecord(**(NO_LAUNCH | core_fields))
        look_fields: dict[str, Any] = shared | {
            "executable": executable,
            "files": (executable, mapped_file(LIBC, SYSTEM_FILES[LIBC])),
            "mappings": (text_of(0), text_of(1)),
            "page_bytes": 4096,
            "anonymous_executable": 0,
            "tracer": 0,
            "uids": (record.uid,) * 4,
            "gids": (record.uid,) * 4,
            "capabilities": 0,
            "strangers": (),
            "no_new_privs": True,
            "seccomp": 0,
            "cgroup": record.cgroup,
            "namespaces": (1, 2, 3, 4, 5, 6, 7),
            "is_user_namespace_initial": True,
            "configuration": record.configuration,
            "is_pid_namespace_initial_owned": True,
            "parent": 1,
            "modules": record.modules,
        }
        seen = Look(**(look_fields | dict(look or {})))
        self.presences.setdefault(record.uid, set()).add(seen.cgroup)
        return self._with_key(record, seen, use_key, dict(creation or {}), public)

    def _with_key(
        self,
        core: CoreRecord,
        look: Look,
        use_key: ec.EllipticCurvePrivateKey,
        creation: dict[str, Any],
        public: Mapping[str, Any] | None,
    ) -> SimulatedProcess:
        outside_info = creation.pop("outside_info", core.digest())
        may_sign = core.proof_key == "tpm"
        key, creation_data = self.tpm.create(
            outside_info, may_sign=may_sign, public=public, **creation
        )
        if may_sign and not core.use_key:
            core = replace(core, use_key=process_key.point_of(key))
        certified = tpm.Creation(name=key.name(), creation_hash=sha256(creation_data))
        certification, signature = self.tpm.attest(attested=certified)
        new = NewProcess(
            core=core.encode(),
            look=look,
            public=key.encode(),
            creation_data=creation_data,
            certification=certification,
            signature=signature,
            modules=b"",
        )
        return SimulatedProcess(core=core, look=look, use_key=use_key, public=key, new=new)

    def open_secret(
        self, process: SimulatedProcess, id_object: bytes, encrypted_secret: bytes
    ) -> bytes:
        """Open a grant's secret (k0) for the process; ValueError where the TPM does not."""
        return self.tpm.activate(process.key_name, id_object, encrypted_secret)

    # Messages

    def signed(
        self, payload: bytes, key: ec.EllipticCurvePrivateKey | None = None
    ) -> SignedMessage:
        """Return any message, signed by the instance key or by another."""
        key = key or self.instance_key
        return SignedMessage(
            payload=payload, key=point_bytes(key), signature=b"".join(sign(key, payload))
        )

    def challenge_request(self, processes: Iterable[SimulatedProcess] = ()) -> SignedMessage:
        """Ask to be judged, with these processes where they need canaries."""
        places = dict.fromkeys(one.place for one in processes if self.needs_canary)
        return self.signed(ChallengeRequest(node=self.name, places=tuple(places)).encode())

    def wanted(self, process: SimulatedProcess) -> SignedMessage:
        """Ask whether any workload wants the process."""
        return self.signed(Wanted(node=self.name, core=process.core.encode()).encode())

    def gone(self, process: SimulatedProcess, cause: str = "process.exited") -> SignedMessage:
        """Say that the process has ended."""
        one = GoneProcess(key_name=process.key_name, cause=cause)
        return self.signed(Gone(node=self.name, processes=(one,)).encode())

    def let_loose(self, challenge: Challenge) -> tuple[CanaryReport, ...]:
        """Use the canaries that the challenge wants, and let the kernel measure them."""
        for place in challenge.canaries:
            for digest in digests(challenge.nonce, place):
                self.measure_record("#12345", digest)
        return tuple(CanaryReport(place=one, failure="") for one in challenge.canaries)

    def body(
        self,
        new: Iterable[SimulatedProcess] = (),
        known: Iterable[SimulatedProcess] = (),
        **changes: Any,
    ) -> Body:
        """Return what the quote binds."""
        fields: dict[str, Any] = {
            "boot": self.boot_id,
            "kernel": KERNEL_VERSION.decode(),
            "instances": tuple(self.instances),
            "hand_overs": tuple(self.hand_overs),
            "canaries": (),
            "posture": self.posture,
            "presences": tuple(
                Presence(uid=uid, cgroups=tuple(sorted(cgroups)))
                for uid, cgroups in sorted(self.presences.items())
            ),
            "new": tuple(process.new for process in new),
            "known": tuple(process.known() for process in known),
        }
        return Body(**(fields | changes))

    def unsigned_evidence(
        self,
        challenge: Challenge,
        /,
        *,
        body: Body | None = None,
        quote: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Evidence:
        """Quote and read the list; `quote` and `changes` are fields of TPMS_ATTEST and Evidence."""
        body = body or self.body(canaries=self.let_loose(challenge))
        encoded = body.encode()
        binding = quote_binding(challenge.trust_domain, challenge.digest(), sha256(encoded))
        attest, signature = self.tpm.quote(binding, **dict(quote or {}))
        records = self.records[challenge.first_record :]
        fields: dict[str, Any] = {
            "node": self.name,
            "challenge": challenge.digest(),
            "body": encoded,
            "quote": attest,
            "signature": signature,
            "registers": tuple(self.tpm.registers),
            "records": b"".join(record.encode() for record in records),
            "withdrawn": (),
            "boot_log": self.boot_log if challenge.wants_boot_log else b"",
        }
        return Evidence(**(fields | changes))

    def evidence(
        self,
        challenge: Challenge,
        new: Sequence[SimulatedProcess] = (),
        known: Sequence[SimulatedProcess] = (),
        withdrawn: Sequence[SimulatedProcess] = (),
    ) -> SignedMessage:
        """Return the honest answer to the challenge."""
        names = tuple(process.key_name for process in withdrawn)
        body = self.body(new, known, canaries=self.let_loose(challenge))
        evidence = self.unsigned_evidence(challenge, body=body, withdrawn=names)
        return self.signed(evidence.encode())

    # What the verifier is configured with

    def reference_toml(self) -> tuple[str, str]:
        """Return the two reference sets: the system's, and the program's."""
        digests = {
            path: (sha256(contents),) for path, contents in (SYSTEM_FILES | ATTESTOR_FILES).items()
        }
        digests["kernel_version"] = (sha256(KERNEL_VERSION),)
        program = {path: (sha256(contents),) for path, contents in PROGRAM_FILES.items()}
        sets = (
            ReferenceSet(name="debian-12", files=digests, source="tests/simulated_node.py"),
            ReferenceSet(name="payments-1.4", files=program),
        )
        return encode_reference(sets[0]), encode_reference(sets[1])

    def workload_toml(self) -> str:
        """Return the workload that `new_process` is."""
        return "\n".join(
            (
                "version = 1",
                f'id = "{self.identity}"',
                f'executable = {{ set = "payments-1.4", file = "{PROGRAM}" }}',
                'mapped = ["debian-12", "payments-1.4"]',
                'user = "payments"',
                'unit = "payments.service"',
                f'minimum = "{self.minimum}"',
                f"canary = {str(self.needs_canary).lower()}",
                "[[use]]",
                f'audience = "{self.audience}"',
                'scopes = ["post"]',
                "",
            )
        )

    def boot_policy_toml(self, *lines: str, **changes: Any) -> str:
        """Return the boot policy that accepts the boot of now; `changes` are fields of it.

        `lines` are the command lines that it accepts, of which one has been measured.
        """
        log = log_of(self.boot)
        made = make_boot_policy("as-booted", [log], command_lines=lines or [COMMAND_LINE])
        return encode_boot_policy(replace(made, **changes))

    def policy(self, **changes: Any) -> Policy:
        """Return the policy that accepts the node and its process."""
        fields: dict[str, Any] = {
            "version": 1,
            "trust_domain": TRUST_DOMAIN,
            "sets": tuple(read_reference(text) for text in self.reference_toml()),
            "workloads": (read_workload(self.workload_toml()),),
            "kernel_policies": (KernelPolicy.of(KERNEL_POLICY),),
        }
        return build_policy(**(fields | changes))
