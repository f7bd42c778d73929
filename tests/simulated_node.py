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
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from evidence import process_key, tpm
from evidence.canary import CanaryReport, digests
from evidence.event_log import ALG_SHA256, Event
from evidence.ima import Record, encode_template
from evidence.messages import (
    INSTANCE_REGISTER,
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
    NewProcess,
    SignedMessage,
    Wanted,
    activation_text,
    quote_binding,
)
from evidence.posture import Posture, Presence
from evidence.process import ANY_PURPOSE, ATTACHED, LAUNCHED, NO_ORIGIN, CoreRecord, Look
from tests.simulated_boot import COMMAND_LINE, boot_uki, log_of
from tests.simulated_keys import AkKind, point_bytes, private_key, sha256, sign
from tests.simulated_process import (
    IDENTITY,
    LAUNCH,
    NO_LAUNCH,
    PROGRAM,
    PROGRAM_FILES,
    SimulatedProcess,
    mapped_file,
    text_of,
)
from tests.simulated_tpm import MANUFACTURER, ZERO, SimulatedManufacturer, SimulatedTpm
from verifier.boot_policy import encode_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.node import Node
from verifier.policy import Policy, ReferenceSet, build_policy
from verifier.policy.kernel import KernelPolicy
from verifier.reasons import ClockSeen
from verifier.reference import encode_reference, read_reference
from verifier.workload import read_workload

TRUST_DOMAIN = "example.org"
ISSUER = "https://verifier.example.org"
AUDIENCE = "https://ledger.example.org"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BOOT_REGISTERS = range(10)

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
LIBC = "usr/lib/x86_64-linux-gnu/libc.so.6"


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


def encoded(records: Iterable[Record]) -> bytes:
    """Return the list, or a part of it, as the kernel writes it."""
    return b"".join(record.encode() for record in records)


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
        said = body.encode()
        binding = quote_binding(challenge.trust_domain, challenge.digest(), sha256(said))
        attest, signature = self.tpm.quote(binding, **dict(quote or {}))
        records = self.records[challenge.first_record :]
        fields: dict[str, Any] = {
            "node": self.name,
            "challenge": challenge.digest(),
            "body": said,
            "quote": attest,
            "signature": signature,
            "registers": tuple(self.tpm.registers),
            "records": encoded(records),
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
