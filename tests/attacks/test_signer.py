"""Attacks on nodes whose files are known by who has signed them."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.file_signature import OVER_FILE_ID
from tests.simulated_keys import sha256
from tests.simulated_node import LIBC, SYSTEM_FILES, SimulatedNode, make_record
from tests.simulated_process import mapped_file, text_of
from tests.simulated_signer import SimulatedSigner, verity_record
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected
from verifier.crypto import file_keys
from verifier.mapped_files import MOST_SIGNED
from verifier.reasons import MOST_FINDINGS
from verifier.workload import read_workload

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"

VENDOR = SimulatedSigner()
TOOL = b"\x7fELF a tool that no set knows"
DIGEST = sha256(TOOL)
TEXT = f"sha256:{DIGEST.hex()}"


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node, signers=[VENDOR.value()])


def measure(node: SimulatedNode, path: str = "/usr/bin/tool", **changes: Any) -> None:  # noqa: ANN401
    """Let the kernel measure the tool, signed unless a change says otherwise."""
    fields: dict[str, Any] = {"digest": DIGEST, "last": VENDOR.signature(DIGEST)}
    node.append(make_record(path, **(fields | changes)))


@pytest.mark.parametrize("register", [10, 13])
def test_a_signed_file_is_known(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    measure(node, register=register)
    verifier.judge(node.evidence(verifier.challenge()))
    assert verifier.measured[-1].signature == VENDOR.signature(DIGEST)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_file_signed_with_a_longer_hash_is_known(
    node: SimulatedNode, verifier: SimulatedVerifier, algorithm: str, version: int
) -> None:
    """Its digest is in no set: the file's own signature chooses what the kernel hashes it with."""
    digest = {"sha256": DIGEST, "sha384": b"3" * 48, "sha512": b"5" * 64}[algorithm]
    signature = VENDOR.signature(digest, algorithm=algorithm, version=version)
    measure(node, digest=digest, algorithm=algorithm, last=signature)
    verifier.judge(node.evidence(verifier.challenge()))


def test_a_signed_file_of_fs_verity_is_known(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    signature = VENDOR.signature(DIGEST, version=OVER_FILE_ID, is_verity=True)
    node.append(verity_record("/usr/bin/tool", DIGEST, signature))
    verifier.judge(node.evidence(verifier.challenge()))


def test_an_unsigned_file_is_as_unknown_as_before(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    measure(node, last=b"")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=24, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"digest": sha256(b"other")}, Reason.LIST_SIGNATURE, id="of another file"),
        pytest.param({"last": b"\3\2\4junk"}, Reason.LIST_SIGNATURE_FORM, id="junk"),
        pytest.param(
            {"last": SimulatedSigner(seed="mine").signature(DIGEST)},
            Reason.LIST_SIGNATURE_KEY,
            id="by his own key",
        ),
        pytest.param(
            {"last": VENDOR.signature(DIGEST, version=OVER_FILE_ID, is_verity=True)},
            Reason.LIST_SIGNATURE_ALGORITHM,
            id="of a verity tree",
        ),
        pytest.param({"path": "/tmp/tool"}, Reason.LIST_SIGNATURE_PATH, id="elsewhere"),
        pytest.param(
            {"digest": ZERO, "last": VENDOR.signature(ZERO)}, Reason.LIST_DIGEST, id="of zeros"
        ),
        pytest.param(
            {
                "digest": b"1" * 20,
                "algorithm": "sha1",
                "last": VENDOR.signature(b"1" * 20, algorithm="sha1"),
            },
            Reason.LIST_DIGEST,
            id="with SHA-1",
        ),
        pytest.param(
            {"template": "ima-buf", "digest": sha256(VENDOR.signature(DIGEST))},
            Reason.LIST_UNKNOWN,
            id="as critical data",
        ),
    ],
)
def test_024_a_signature_that_does_not_count(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    changes: dict[str, Any],
    expected: Reason,
) -> None:
    measure(node, **changes)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
def test_099_a_signature_put_into_the_list_later(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The template data covers the signature: a record that had none cannot be given one."""
    measure(node, last=b"")
    evidence = node.unsigned_evidence(verifier.challenge())
    signed = make_record("/usr/bin/tool", DIGEST, last=VENDOR.signature(DIGEST))
    records = b"".join(one.encode() for one in (*node.records[:-1], signed))
    forged = replace(evidence, records=records)
    assert verifier.refusal(forged) == {Reason.LIST_REPLAY}


def test_a_signer_of_other_nodes_does_not_count(node: SimulatedNode) -> None:
    verifier = SimulatedVerifier(node, signers=[VENDOR.value(nodes=("build-8",))])
    measure(node)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


# Revoked


@pytest.mark.attack(number=111, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("is_late", [False, True])
def test_111_a_digest_that_its_signer_has_revoked(node: SimulatedNode, *, is_late: bool) -> None:
    """Before it was seen, or after: a newer policy judges every record again."""
    measure(node)
    verifier = SimulatedVerifier(node, signers=[VENDOR.value()])
    if is_late:
        verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=2, signers=[VENDOR.value(revoked=(TEXT,))])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_REVOKED}


@pytest.mark.attack(number=111, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"verity:{TEXT}", None),
        (f"sha256:{'ab' * 32}", None),
        (TEXT, Reason.LIST_REVOKED),
    ],
)
def test_111_a_revoked_digest_is_that_digest(
    node: SimulatedNode, text: str, expected: Reason | None
) -> None:
    measure(node)
    verifier = SimulatedVerifier(node, signers=[VENDOR.value(revoked=(text,))])
    message = node.evidence(verifier.challenge())
    if expected is None:
        verifier.judge(message)
    else:
        assert verifier.refusal(message) == {expected}


@pytest.mark.attack(number=111, attacker=ROOT, asset=NODE)
def test_111_a_revoked_digest_that_a_set_or_another_signer_knows(node: SimulatedNode) -> None:
    """Who revokes knows more than who once shipped it: on the nodes where he counts."""
    libc = f"sha256:{sha256(SYSTEM_FILES[LIBC]).hex()}"
    verifier = SimulatedVerifier(node, signers=[VENDOR.value(revoked=(libc,))])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_REVOKED}
    elsewhere = VENDOR.value(revoked=(libc,), nodes=("build-8",))
    verifier = SimulatedVerifier(node, signers=[elsewhere])
    verifier.judge(node.evidence(verifier.challenge()))

    other = SimulatedSigner("other", kind="secp256r1")
    measure(node, last=other.signature(DIGEST))
    signers = [other.value(), VENDOR.value(revoked=(TEXT,))]
    verifier = SimulatedVerifier(node, signers=signers)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_REVOKED}


@pytest.mark.attack(number=111, attacker=ROOT, asset=NODE)
def test_111_a_signer_that_is_withdrawn(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    measure(node)
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=2)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


def test_a_stored_signature_is_judged_again(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A set is withdrawn; what it knew is known by its signature, which was kept."""
    measure(node)
    known = node.policy().sets[0]
    with_tool = replace(known, files={**known.files, "usr/bin/tool": (DIGEST,)})
    verifier.policy = node.policy(sets=(with_tool, node.policy().sets[1]))
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=2, signers=[VENDOR.value()])
    verifier.judge(node.evidence(verifier.challenge()))
    tampered = replace(verifier.measured[-1], signature=b"")
    verifier.measured = (*verifier.measured[:-1], tampered)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_STORED}


# Cost


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures that have been verified, by and by."""
    signatures: list[bytes] = []
    genuine = file_keys.is_signed_file

    def count(spki: bytes, signature: bytes, **given: Any) -> bool:  # noqa: ANN401
        signatures.append(signature)
        return genuine(spki, signature, **given)

    monkeypatch.setattr(file_keys, "is_signed_file", count)
    return signatures


@pytest.mark.attack(number=100, attacker=ROOT, asset="the service")
def test_100_no_signature_is_verified_for_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier, verified: list[bytes]
) -> None:
    """What a set knows is not looked at further; what a signature made known, once."""
    libc = sha256(SYSTEM_FILES[LIBC])
    for number in range(100):
        node.append(make_record(f"/usr/lib/{number}", libc, last=VENDOR.signature(libc)))
    verifier.judge(node.evidence(verifier.challenge()))
    assert verified == []
    tool = sha256(b"a tool that is judged here only")
    measure(node, digest=tool, last=VENDOR.signature(tool))
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.judge(node.evidence(verifier.challenge()))
    assert len(verified) == 1


@pytest.mark.attack(number=100, attacker=ROOT, asset="the service")
def test_100_a_list_full_of_junk_under_a_known_keys_id(
    node: SimulatedNode, verifier: SimulatedVerifier, verified: list[bytes]
) -> None:
    """As many are looked at as a refusal tells of, and no more."""
    junk = bytearray(VENDOR.signature(DIGEST))
    for number in range(1000):
        junk[-2:] = number.to_bytes(2, "big")
        measure(node, f"/usr/bin/{number}", last=bytes(junk))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_SIGNATURE}
    assert len(verified) == MOST_FINDINGS + 1


@pytest.mark.attack(number=100, attacker=ROOT, asset="the service")
def test_100_a_known_file_listed_with_many_junk_signatures(
    node: SimulatedNode, verified: list[bytes]
) -> None:
    """A set knows it, so the node is accepted; for a process a few of them are looked at."""
    libc = sha256(SYSTEM_FILES[LIBC])
    junk = bytearray(VENDOR.signature(libc))
    for number in range(1000):
        junk[-2:] = number.to_bytes(2, "big")
        node.append(make_record("/usr/lib/libc.so.6", libc, last=bytes(junk)))
    process = node.new_process()
    verifier = SimulatedVerifier(
        node, workloads=(read_workload(workload("vendor")),), signers=[VENDOR.value()]
    )
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_MAPPED}
    assert len(verified) == MOST_SIGNED


# Processes


def workload(*mapped: str) -> str:
    text = SimulatedNode().workload_toml()
    names = ", ".join(f'"{one}"' for one in mapped)
    return text.replace('["debian-12", "payments-1.4"]', f"[{names}]")


def judge_process_with_tool(
    node: SimulatedNode, *mapped: str, signers: tuple[SimulatedSigner, ...] = (VENDOR,)
) -> object:
    """Return what becomes of a process that maps the tool, of a workload with these names."""
    process = node.new_process()
    files = (*process.look.files, mapped_file("usr/bin/tool", TOOL))
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    verifier = SimulatedVerifier(
        node,
        workloads=(read_workload(workload(*mapped)),),
        signers=[one.value() for one in signers],
    )
    return only(verifier.judge(node.evidence(verifier.challenge(), new=[process])).processes)


def test_a_mapped_file_may_come_from_a_signer(node: SimulatedNode) -> None:
    measure(node)
    outcome = judge_process_with_tool(node, "debian-12", "vendor")
    assert not hasattr(outcome, "findings")
    refused = judge_process_with_tool(node, "debian-12")
    assert reasons(refused) == {Reason.PROCESS_MAPPED}  # type: ignore[arg-type]


def test_a_mapped_file_that_a_set_knows_counts_as_signed_too(node: SimulatedNode) -> None:
    """The workload names the signer alone: the record is known by a set, and was not verified."""
    libc = sha256(SYSTEM_FILES[LIBC])
    node.append(make_record("/usr/lib/libc.so.6", libc, last=VENDOR.signature(libc)))
    process = node.new_process()
    verifier = SimulatedVerifier(
        node, workloads=(read_workload(workload("vendor")),), signers=[VENDOR.value()]
    )
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=62, attacker="the process itself", asset="the identity")
def test_062_a_mapped_file_that_another_signer_has_signed(node: SimulatedNode) -> None:
    other = SimulatedSigner("other", kind="secp256r1")
    measure(node, last=other.signature(DIGEST))
    outcome = judge_process_with_tool(node, "debian-12", "vendor", signers=(VENDOR, other))
    assert reasons(outcome) == {Reason.PROCESS_MAPPED}  # type: ignore[arg-type]


@pytest.mark.attack(number=62, attacker="the process itself", asset="the identity")
def test_062_a_mapped_file_whose_signed_record_is_of_another_register(
    node: SimulatedNode,
) -> None:
    """What the attestor's uid has read was not mapped as code by anybody whom IMA has seen."""
    measure(node, register=13)
    outcome = judge_process_with_tool(node, "debian-12", "vendor")
    assert reasons(outcome) == {  # type: ignore[arg-type]
        Reason.PROCESS_MAPPED,
        Reason.PROCESS_NOT_MEASURED,
    }


@pytest.mark.attack(number=112, attacker="an operator's mistake", asset="the identity")
def test_112_an_executable_that_a_key_names(node: SimulatedNode) -> None:
    """A key says who made a program, and he makes others: an identity is one program's."""
    text = node.workload_toml().replace('set = "payments-1.4"', 'set = "vendor"')
    with pytest.raises(Rejected) as rejection:
        node.policy(workloads=(read_workload(text),), signers=[VENDOR.value()])
    (finding,) = rejection.value.findings
    assert (finding.reason, finding.found) == (Reason.POLICY_INVALID, "signer vendor")


def test_a_signer_and_a_set_of_one_name(node: SimulatedNode) -> None:
    with pytest.raises(Rejected) as rejection:
        node.policy(signers=[SimulatedSigner("debian-12").value()])
    assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}


@pytest.mark.attack(number=71, attacker=USER, asset=NODE)
def test_071_a_signed_file_under_the_path_of_another(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A user's own mount namespace gives any file any path: what the key signed still counts.

    So `paths` narrows what honest machines run. It is `revoked` that stops a signed file.
    """
    measure(node, "/usr/bin/another-tool")
    verifier.judge(node.evidence(verifier.challenge()))
    evil = sha256(b"evil")
    node.append(make_record("/usr/bin/tool", evil))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
