"""What fuzzing starts from: our own messages, the property tests' values, and real files.

Files of third parties are read beside the checkout where they are there, and cut to the parts
that differ; nothing of them is written anywhere.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from credential import Finding, Keys, grant, local, presentation, use, wit
from credential import Malformed as CredentialMalformed
from credential import crypto as credential_crypto
from credential import keys as credential_keys
from credential.members import to_json
from credential.reasons import Reason as CredentialReason
from credential.status import Status
from evidence import Challenge, Malformed, cbor, tpm
from evidence.certificate import Certificate
from evidence.event_log import EventLog
from evidence.file_signature import OVER_DIGEST, OVER_FILE_ID, FileSignature
from evidence.ima import LIST_HASHES, Record, read_records
from evidence.messages import Evidence
from evidence.shapes import Message
from tests.credential import world as relying
from tests.critical_data import (
    STATE_61,
    STATE_612,
    TABLE_61,
    TABLE_612,
    confinement_toml,
    verity_toml,
)
from tests.evidence import shapes
from tests.evidence.test_event_log import agile_logs, sha1_logs
from tests.evidence.test_ima_templates import records as template_records
from tests.makers import Maker, certify, distinguished, found
from tests.shared_vectors import VECTORS, expected
from tests.simulated_boot import COMMAND_LINE, boot_grub, boot_uki, log_of
from tests.simulated_keys import private_key as simulated_key
from tests.simulated_node import NOW, SimulatedNode, make_challenge
from verifier.boot_policy import read_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.case import (
    Document,
    Exported,
    Frame,
    Head,
    Outcome,
    chain_over,
    digest_of,
    write_measured,
)
from verifier.keys import SigningKey
from verifier.node import Measured
from verifier.policy import BootPolicy, Policy, Signer
from verifier.reference import read_signer
from verifier.workload import EXAMPLE

MESSAGES: tuple[type[Message], ...] = shapes.MESSAGES

FEW = 24
"""Values of one kind."""
SHORT = 12
"""Records or events of a list: more of them say nothing new."""
MOST_BYTES = 8192


def examples(strategy: st.SearchStrategy[Any], count: int = FEW) -> list[Any]:
    """Return values of a strategy: the same ones each time."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:  # noqa: ANN401 - of any strategy
        found.append(value)

    collect()
    return found


# The measurement list


def lists() -> Iterator[bytes]:
    """Yield lists of each bank and template, and one of a whole node."""
    for algorithm in LIST_HASHES:
        if algorithm not in hashlib.algorithms_available:
            continue
        for record, _ in examples(template_records(algorithm=algorithm)):
            yield record.encode()
    yield b"".join(record.encode() for record in records())
    for data in _vectors("ima"):
        yield from _parts_of_list(data)


def appraised_lists() -> Iterator[bytes]:
    """Yield the list of a node, and lists that begin with it."""
    honest = b"".join(record.encode() for record in records())
    yield honest
    simulated = SimulatedNode()
    simulated.violate("/usr/bin/written", register=10)
    simulated.measure("home/user/a b", b"own", register=12)
    simulated.measure_record("/x", bytes(32), register=13, template="ima-sigv2")
    simulated.measure_record("/x", bytes(16), algorithm="md5", template="ima-ng")
    simulated.measure_buffer("kernel_version", b"other")
    yield b"".join(record.encode() for record in simulated.records)
    for record, _ in examples(template_records()):
        yield honest + record.encode()


def _parts_of_list(data: bytes) -> Iterator[bytes]:
    """Yield the beginning of a list, and the first record of each template in it."""
    for width in sorted(set(LIST_HASHES.values())):
        try:
            whole = list(read_records(data, template_hash_bytes=width))
        except Malformed:
            continue
        templates: dict[tuple[str, bool], Record] = {}
        for record in whole:
            templates.setdefault((record.template, record.is_violation), record)
        yield b"".join(record.encode() for record in whole[:SHORT])
        yield from (record.encode() for record in templates.values())
        return


def ascii_lists() -> Iterator[bytes]:
    """Yield lists in text."""
    yield b"10 %s ima-ng sha256:%s /usr/bin/a b\n" % (b"ab" * 20, b"cd" * 32)
    yield b"10 %s ima %s boot_aggregate\n" % (b"ab" * 20, b"cd" * 20)
    yield b"10 %s ima-sig sha256:%s /usr/bin/a 0302\n" % (b"ab" * 32, b"cd" * 32)
    yield b"11 %s d-ng|n-ng|iuid|imode sha1:%s a 1000 33261\n" % (b"0" * 40, b"cd" * 20)
    yield b"10 %s evm-sig sha1:%s a 03 x|y 04000000 aabb 0 0 33188\n" % (b"ab" * 20, b"cd" * 20)
    for path in sorted(VECTORS.glob("**/*ascii*")):
        if path.is_file():
            yield b"".join(path.read_bytes().splitlines(keepends=True)[:SHORT])


# Boot event logs


def event_logs() -> Iterator[bytes]:
    """Yield logs in both forms."""
    for log in chain(examples(sha1_logs()), examples(agile_logs())):
        yield log.encode()
    for data in _vectors("eventlogs"):
        try:
            log = EventLog.decode(data)
        except Malformed:
            yield data[:512]
            continue
        kinds = {(event.type, event.register): event for event in reversed(log.events)}
        short = [event for event in kinds.values() if len(event.data) < 1024]
        for events in (log.events[:SHORT], tuple(short)):
            part = replace(log, events=events, padding=b"").encode()
            if len(part) <= 2 * MOST_BYTES:
                yield part


def boot_logs() -> Iterator[bytes]:
    """Yield the logs of boots in their forms, good and bad."""
    boots = (boot_uki(), boot_uki("init=/bin/sh"), boot_grub(), boot_uki()[:-3])
    for boot in boots:
        yield log_of(boot).encode()
        yield replace(log_of(boot), padding=b"\xff" * 16).encode()
    yield from event_logs()


@cache
def boot_policy() -> BootPolicy:
    """Return the policy that accepts the boots of both forms."""
    logs = [log_of(boot_uki())]
    return make_boot_policy("fuzz", logs, command_lines=[COMMAND_LINE])


# Certificates, keys and signatures

DIGESTS = {"sha256": b"2" * 32, "sha512": b"5" * 64}


@cache
def maker() -> Maker:
    """Return the maker whose word counts."""
    return found("Fuzz TPMs")


@cache
def ek_certificate() -> Certificate:
    """Return the certificate of an EK that it has made."""
    return Certificate.decode(certify(maker()))


def certificates() -> Iterator[bytes]:
    """Yield certificates of EKs and CAs, good and bad, with what vendors put around them."""
    ek = certify(maker())
    yield from (ek, maker().der, found("Intermediate", maker()).der)
    yield b"\x10\x01\x00" + len(ek).to_bytes(2, "big") + b"\x10\x02" + ek + b"\xff" * 20
    name = x509.DirectoryName(distinguished("Permitted"))
    limits = x509.NameConstraints(permitted_subtrees=[name], excluded_subtrees=[name])
    yield found("Constrained", maker(), more=[(limits, True)]).der
    yield certify(maker(), end=NOW.replace(year=2021))
    yield b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(ek) + b"-----END CERTIFICATE-----\n"
    for pattern in ("keylime/certs/*.der", "hirs/certs/*", "go-tpm-tools/certificates/*.pem"):
        for path in sorted(VECTORS.glob(pattern)):
            data = path.read_bytes()
            for one in _from_pem(data) if data.startswith(b"-----") else (data,):
                if len(one) <= MOST_BYTES // 2:
                    yield one


def _from_pem(data: bytes) -> Iterator[bytes]:
    for part in data.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        yield base64.b64decode(part.partition(b"-----END")[0])


def enrolments() -> Iterator[bytes]:
    """Yield introductions."""
    simulated = node()
    key = simulated.tpm.ek_key.public_key()
    issuer = found("Intermediate", maker())
    good = {"ek_certificate": certify(maker(), key)}
    chained = {"ek_certificate": certify(issuer, key), "ek_intermediates": (issuer.der,)}
    for changes in (good, chained, {"ek_certificate": b""}, {"ak_public": b""}, {"node": "A b"}):
        yield simulated.enrol_message(**(good | changes)).encode()


def public_keys() -> Iterator[bytes]:
    """Yield keys in PEM, of good kinds and others."""
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()):
        yield _pem(ec.derive_private_key(7, curve).public_key())
    for bits in (1024, 2048):
        modulus = (1 << bits) - 159
        yield _pem(rsa.RSAPublicNumbers(65537, modulus).public_key())


def _pem(key: Any) -> bytes:  # noqa: ANN401 - of any kind
    return bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


@cache
def signer() -> Signer:
    """Return somebody whose files are known."""
    pem = _pem(simulated_key("signer").public_key()).decode()
    return read_signer(
        f"version = 1\nkind = 'signer'\nname = 'v'\nkeys = [{json.dumps(pem)}]\npaths = ['usr/']\n"
    )


_VERSIONS = ((OVER_DIGEST, False), (OVER_FILE_ID, False), (OVER_FILE_ID, True))


def critical_data() -> Iterator[bytes]:
    """Yield what genuine kernels measured of dm-verity and SELinux."""
    for text in (TABLE_61, TABLE_612, STATE_61, STATE_612):
        yield text.encode()
    yield TABLE_612.replace("_once=n", "_once=y,root_hash_sig_key_desc=k,verity_mode=x").encode()


def file_signatures() -> Iterator[bytes]:
    """Yield signatures of each version."""
    (key,) = signer().keys
    for algorithm, digest in DIGESTS.items():
        for version, is_verity in (
            (OVER_DIGEST, False),
            (OVER_FILE_ID, False),
            (OVER_FILE_ID, True),
        ):
            bare = FileSignature(
                is_verity=is_verity,
                version=version,
                algorithm=algorithm,
                key_id=key.key_id,
                signature=b"x",
            )
            hash_ = {"sha256": hashes.SHA256(), "sha512": hashes.SHA512()}[algorithm]
            scheme = ec.ECDSA(Prehashed(hash_), deterministic_signing=True)
            signature = simulated_key("signer").sign(bare.signed_hash(digest), scheme)
            yield replace(bare, signature=signature).encode()


def quotes() -> Iterator[bytes]:
    """Yield the files of quotes."""
    simulated = SimulatedNode()
    list_ = b"".join(record.encode() for record in simulated.records)
    ak = simulated.tpm.ak.encode()
    for registers in (tuple(range(16)), (0, 1, 2, 3, 4, 5, 6, 7, 10), (10,)):
        values = b"".join(simulated.tpm.registers[one] for one in registers)
        selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=registers)
        attested = tpm.Quote(selections=(selection,), digest=hashlib.sha256(values).digest())
        message, signature = simulated.tpm.attest(attested=attested, extra_data=b"n" * 32)
        yield cbor.encode([message, signature, ak, b"n" * 32, list_, simulated.boot_log])
        yield cbor.encode([message, signature, ak, b"n" * 32, list_, b""])
        yield cbor.encode([message, signature, ak, b"n" * 32, b"", b""])
    for path in sorted(VECTORS.glob("generated-swtpm/*.quote")):
        signature_path = path.with_suffix(".sig")
        key_path = path.with_name(path.name.split(".")[0] + ".ak.tpm2b_public")
        if signature_path.is_file() and key_path.is_file():
            files = [one.read_bytes() for one in (path, signature_path, key_path)]
            yield cbor.encode([*files, bytes.fromhex("00112233445566778899aabbccddeeff"), b"", b""])


# TPM structures


def tpm_structures() -> Iterator[bytes]:
    """Yield each structure."""
    for _, values in shapes.STRUCTURES.values():
        yield from (value.encode() for value in examples(values))
    for suffix in ("quote", "sig", "attest", "creation_data", "tpm2b_public"):
        for path in sorted(VECTORS.glob(f"generated-swtpm/*.{suffix}")):
            data = path.read_bytes()
            yield data[2:] if suffix == "tpm2b_public" else data


# Messages


def messages() -> Iterator[bytes]:
    """Yield every message."""
    for kind in MESSAGES:
        yield from (value.encode() for value in examples(shapes.shapes(kind), 6))
    simulated = SimulatedNode("n")
    process = simulated.new_process()
    yield simulated.enrol_message().encode()
    yield simulated.evidence(make_challenge("n"), [process]).encode()
    yield simulated.body([process], [process]).encode()
    yield cbor.encode([1, -1, None, True, "text", b"bytes", [], [[[[]]]]])


def bodies() -> Iterator[bytes]:
    """Yield what a node with processes quotes."""
    simulated = node()
    processes = [
        simulated.new_process(),
        simulated.new_process(core={"binding": "launched", "peer_proof": "child"}),
        simulated.new_process(core={"identity": ""}, look={"anonymous_executable": 4096}),
        simulated.new_process(core={"user": "root"}),
    ]
    yield simulated.body().encode()
    for process in processes:
        yield simulated.body([process]).encode()
        yield simulated.body([], [process]).encode()
    yield simulated.body(processes[:2], processes[2:]).encode()


def evidence() -> Iterator[bytes]:
    """Yield evidence of the node."""
    simulated = node()
    simulated.relist(records())
    process = simulated.new_process()
    asked = challenge(wants_boot_log=True)
    yield simulated.unsigned_evidence(asked).encode()
    yield simulated.unsigned_evidence(asked, body=simulated.body([process])).encode()
    yield simulated.unsigned_evidence(asked, withdrawn=(process.key_name,)).encode()
    log = next(iter(event_logs()))
    yield simulated.unsigned_evidence(asked, boot_log=log).encode()


# Decisions


@cache
def node() -> SimulatedNode:
    """Return the node that signs and quotes what it is given."""
    return SimulatedNode()


@cache
def records() -> tuple[Record, ...]:
    """Return its honest list."""
    return tuple(SimulatedNode().records)


@cache
def policy() -> Policy:
    """Return the policy that accepts it, however it has booted."""
    return SimulatedNode().policy()


@cache
def strict_policy() -> Policy:
    """Return the policy that judges its boot too."""
    simulated = SimulatedNode()
    return simulated.policy(boot_policies=(read_boot_policy(simulated.boot_policy_toml()),))


@cache
def challenge(*, wants_boot_log: bool = False) -> Challenge:
    """Return what it is asked."""
    return make_challenge(node().name, wants_boot_log=wants_boot_log)


@cache
def honest_evidence() -> Evidence:
    """Return its answer, with nothing to say of processes."""
    simulated = node()
    simulated.relist(records())
    return simulated.unsigned_evidence(challenge())


def document(kind: str, text: str) -> Document:
    """Return a policy document of this kind."""
    return Document(kind=kind, name="fuzz", text=text)


def frame() -> Frame:
    """Return what a policy has besides documents."""
    return Frame(
        version=1,
        trust_domain="example.org",
        execute_register=10,
        user_register=12,
        attestor_register=13,
    )


def cases() -> Iterator[bytes]:
    """Yield exported cases, and their heads and stored sets."""
    for case in _cases():
        yield case.encode()
        yield case.head
        yield from case.parts


def _cases() -> Iterator[Exported]:
    simulated = SimulatedNode()
    process = simulated.new_process()
    sets = simulated.reference_toml()
    documents = (
        *(document("reference", text) for text in sets),
        document("workload", simulated.workload_toml()),
        document("kernel-policy", "measure func=BPRM_CHECK\nmeasure func=MMAP_CHECK\n"),
    )
    asked = make_challenge(simulated.name)
    measured = Measured(
        register=10, algorithm="sha256", digest=bytes(32), path=b"/a", template="ima-sig"
    )
    parts = (write_measured((measured, measured)),)
    log = next(iter(event_logs()))
    message = simulated.evidence(asked, [process]).encode()
    head = Head(
        message=hashlib.sha256(message).digest(),
        challenge=asked.encode(),
        node=simulated.accepted(process),
        checkpoint=None,
        measured=chain_over(parts),
        boot_log=hashlib.sha256(log).digest(),
        frame=frame(),
        documents=digest_of(documents),
        address="10.1.2.3",
        now=NOW,
        outcome=Outcome(verdict="refused", reasons=("ima-list.unknown",), processes=()),
    )
    yield Exported.make(
        ledger=7,
        head=head.encode(),
        message=message,
        parts=parts,
        boot_log=log,
        documents=documents,
        key=signing_key(),
    )
    yield Exported.make(
        ledger=8,
        head=head.encode(),
        message=message,
        parts=(),
        boot_log=b"",
        documents=(),
        key=signing_key(),
    )


# Policy documents


def documents() -> Iterator[bytes]:
    """Yield a workload and reference sets."""
    yield EXAMPLE.encode()
    simulated = node()
    yield from (text.encode() for text in simulated.reference_toml())
    yield simulated.workload_toml().encode()
    yield simulated.boot_policy_toml().encode()
    pem = _pem(simulated_key("signer").public_key()).decode()
    yield (
        f"version = 1\nkind = 'signer'\nname = 'v'\nkeys = ['''\n{pem}''']\npaths = ['usr/', 'x']\n"
        f"revoked = ['sha256:{'0' * 64}']\nnodes = ['n']\n"
    ).encode()
    yield verity_toml(TABLE_61, TABLE_612).encode()
    yield confinement_toml(STATE_61, STATE_612).encode()
    yield b'version = 1\nreject = ["ima-list.violation"]\n'
    yield (
        b'version = 1\nname = "a"\nsource = "b"\nnodes = ["n"]\n[files]\n'
        b'"etc/x" = ["sha256:%s", "sha256:%s"]\n' % (b"0" * 64, b"1" * 64)
    )


# Credentials


@cache
def private_key() -> credential_crypto.PrivateKey:
    """Return the verifier's key, which is the use key too: the same one each time."""
    return simulated_key("fuzz")


@cache
def signing_key() -> SigningKey:
    """Return the same with its name."""
    point = credential_crypto.point_of(private_key())
    return SigningKey(private=private_key(), kid=credential_keys.thumbprint(point))


@cache
def keys() -> Keys:
    """Return what a relying party trusts."""
    return Keys.of("example.org", [(signing_key().kid, signing_key().point)])


def _claims() -> wit.Claims:
    return replace(relying.CLAIMS, use_key=signing_key().point)


def _payload(text: str) -> bytes:
    part = text.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def tokens() -> Iterator[bytes]:
    """Yield a token and its payload."""
    yield from (token().encode(), _payload(token()))


def token() -> str:
    """Return a token."""
    return wit.encode(_claims(), key=private_key(), kid=signing_key().kid)


def answers() -> Iterator[bytes]:
    """Yield what the verifier answers about it."""
    yield json.dumps({"active": True, "scope": "post", **wit.as_json(_claims())}).encode()
    yield b'{"active": false}'


def uses() -> Iterator[bytes]:
    """Yield what a relying party reports: a request that was let in, and one more."""
    request: dict[str, Any] = {
        "id": "A" * 22, "now": NOW, "audience": "https://ledger.example.org", "method": "POST",
        "target": "/post",
    }  # fmt: skip
    accepted = use.make(claims=_claims(), **request)
    refused = use.make(claims=None, findings=[Finding(reason="token.missing")], **request)
    for lines in ((accepted,), (refused,), (accepted, refused)):
        yield "".join(f"{use.encode(one)}\n" for one in lines).encode()


def status_lists() -> Iterator[bytes]:
    """Yield status lists and their payloads."""
    for at in (Status.VALID, Status.SUSPENDED):
        text = relying.make_list(key=private_key(), kid=signing_key().kid, at=at)
        yield from (text.encode(), _payload(text))


def proofs() -> Iterator[bytes]:
    """Yield a proof and its payload."""
    yield from _proofs("wpt", "")


def dpop_proofs() -> Iterator[bytes]:
    """Yield proofs with and without a nonce and their payloads."""
    yield from _proofs("dpop", "")
    yield from _proofs("dpop", "AAAA")


def _proofs(kind: presentation.Kind, nonce: str) -> Iterator[bytes]:
    proof = presentation.compose(
        kind,
        token="a.b.c",
        use_key=signing_key().point,
        audience="https://ledger.example.org",
        method="POST",
        url="https://ledger.example.org/post",
        nonce=nonce,
        now=NOW,
        jti=bytes(16),
    ).sign(private_key())
    yield from (proof.encode(), _payload(proof))


def grant_question() -> dict[str, object]:
    """Return what the attestor asked."""
    return {
        "node": "build-7",
        "key_name": b"\x00\x0b" + b"k" * 32,
        "core": b"c" * 32,
        "challenge": b"q" * 32,
        "next_step": 0,
    }


def grants() -> Iterator[bytes]:
    """Yield grants of each kind and their payloads."""
    question = grant_question()
    del question["next_step"]
    lease = grant.Grant(lease_seconds=300, step=0, **question)  # type: ignore[arg-type]
    first = grant.seal_token(
        replace(lease, id_object=b"id", encrypted_secret=b"es"),
        "a.b",
        key=bytes(32),
        nonce=bytes(12),
    )
    for value in (lease, first, replace(lease, step=9, ciphertext=b"c" * 40)):
        text = grant.sign(value, key=private_key(), kid=signing_key().kid)
        yield from (text.encode(), _payload(text))


def key_sets() -> Iterator[bytes]:
    """Yield sets of keys."""
    ours = keys().to_jwks()
    yield to_json(ours)
    yield to_json({"keys": [*ours["keys"], {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]})


def local_messages() -> Iterator[bytes]:
    """Yield messages of the local socket."""
    url = "https://ledger.example.org/post"
    yield local.Nonce(nonce="0f" * 32).encode()
    yield local.Obtain(nonce="0f" * 32, id="spiffe://example.org/payments").encode()
    yield local.Obtain(
        nonce="0f" * 32, proof_key="process", use_key="A" * 87, signature="A" * 86
    ).encode()
    yield local.Prove(audience="a", method="GET", url=url, kind="dpop", nonce="n").encode()
    yield local.Credential(
        token="a.b.c", expires=1, id="spiffe://example.org/payments", level="L2"
    ).encode()
    yield local.Prove(audience="https://ledger.example.org", method="POST", url=url).encode()
    yield local.Proof(token="a.b.c", proof="d.e.f").encode()
    yield local.Token().encode()
    yield local.Job(name="build-17").encode()
    yield local.Opened(name="build-17").encode()
    yield local.Launch(
        argument=("/bin/a", "b c"), environment=("A=b",), user="payments", file=("/etc/a",), job="b"
    ).encode()
    yield local.Launched(pid=7).encode()
    yield local.Ended(status=-9).encode()
    yield local.Status().encode()
    yield local.State(json=json.dumps({"node": "build-7"})).encode()
    finding = CredentialMalformed(CredentialReason.TOKEN_MALFORMED, "what").findings[0]
    yield local.Refusal.of((finding, finding)).encode()


# Files of third parties


def _vectors(kind: str) -> Iterator[bytes]:
    """Yield the files of a kind, where they are beside the checkout."""
    for name in sorted(expected(kind)):
        path = VECTORS / name
        if path.is_file():
            yield path.read_bytes()
