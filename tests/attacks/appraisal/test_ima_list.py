"""Attacks on the measurement list: records that are not as the kernel has extended them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from evidence.ima import Record
from tests.simulated_keys import sha256
from tests.simulated_node import (
    LIBC,
    SYSTEM_FILES,
    SimulatedNode,
    encoded,
    make_record,
    record_of,
)
from tests.simulated_process import mapped_file, text_of
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected
from verifier.policy import ReferenceSet

ROOT = "root on the node"
NODE = "the node's verdict"


@pytest.mark.attack(number=15, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "mutate",
    [
        pytest.param(lambda records: records[:-1], id="last dropped"),
        pytest.param(lambda records: records[:5] + records[6:], id="one dropped"),
        pytest.param(lambda records: records[1:], id="first dropped"),
        pytest.param(lambda records: [*records[:4], records[5], records[4], *records[6:]],
                     id="two in another order"),
        pytest.param(lambda records: [*records[:5], records[4], *records[5:]], id="one twice"),
        pytest.param(lambda records: records[::-1], id="backwards"),
    ],
)  # fmt: skip
def test_015_a_list_with_records_missing_moved_or_repeated(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mutate: Callable[[list[Record]], list[Record]],
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    mutated = replace(evidence, records=encoded(mutate(node.records)))
    assert verifier.refusal(mutated) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=16, attacker=ROOT, asset=NODE)
def test_016_a_list_cut_where_the_quote_is(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Accepted, since the quote proves no more; the next quote has to show the rest."""
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    node.measure("usr/bin/evil", b"evil")
    verifier.judge(evidence)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=17, attacker=ROOT, asset="the identity")
def test_017_an_invented_record_after_the_quoted_ones(node: SimulatedNode) -> None:
    """It would make a known library count as measured; what no register covers does not count."""
    library = mapped_file("usr/lib/libextra.so.1", b"extra")
    extra = ReferenceSet(name="payments-1.4", files={"usr/lib/libextra.so.1": (library.digest,)})
    policy = node.policy()
    program = replace(policy.sets[1], files={**policy.sets[1].files, **extra.files})
    verifier = SimulatedVerifier(node, sets=(policy.sets[0], program))
    process = node.new_process()
    files = (*process.look.files, library)
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    invented = make_record("/usr/lib/libextra.so.1", library.digest).encode()

    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([process]))
    verdict = verifier.judge(replace(evidence, records=evidence.records + invented))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_NOT_MEASURED}

    node.measure("usr/lib/libextra.so.1", b"extra")
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=18, attacker=ROOT, asset=NODE)
def test_018_an_invented_record_that_an_unknown_tool_has_extended(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("root/forge", b"#!/usr/bin/python3")
    node.measure("usr/lib/systemd/systemd-golden", SYSTEM_FILES["usr/lib/systemd/systemd"])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=18, attacker=ROOT, asset="the measurement list", level="L4")
def test_018_an_invented_record_that_a_known_interpreter_has_extended_passes(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The residual: `python3 -c` leaves no entry. Closed only where the kernel confines the TPM."""
    node.measure("usr/lib/systemd/systemd-golden", SYSTEM_FILES["usr/lib/systemd/systemd"])
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=19, attacker=ROOT, asset=NODE)
def test_019_an_unknown_record_made_to_look_like_a_violation(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    hidden = replace(node.records[-1], template_hash=bytes(20))
    forged = replace(evidence, records=encoded([*node.records[:-1], hidden]))
    assert verifier.refusal(forged) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=20, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("path", ["/home/user/notes", "/var/log/messages", ""])
def test_020_a_violation_under_another_name(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str
) -> None:
    """No hash covers a violation's path: it is not read, whatever it says."""
    node.violate("/usr/lib/x86_64-linux-gnu/libc.so.6")
    evidence = node.unsigned_evidence(verifier.challenge())
    renamed = replace(node.records[-1], data=make_record(path, ZERO).data)
    forged = replace(evidence, records=encoded([*node.records[:-1], renamed]))
    assert verifier.refusal(forged) == {Reason.LIST_VIOLATION}
    junk = replace(node.records[-1], data=b"anything", template="nonsense")
    evidence = node.unsigned_evidence(verifier.challenge())
    forged = replace(evidence, records=encoded([*node.records[:-1], junk]))
    assert verifier.refusal(forged) == {Reason.LIST_VIOLATION}


@pytest.mark.attack(number=21, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
def test_021_a_file_relabelled_as_critical_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """No hash covers the template's name; the buffer's own digest gives it away."""
    evidence = node.unsigned_evidence(verifier.challenge())
    relabelled = [
        replace(one, template="ima-buf") if b"libc.so.6" in one.data else one
        for one in node.records
    ]
    forged = replace(evidence, records=encoded(relabelled))
    assert verifier.refusal(forged) == {Reason.LIST_BUFFER}


@pytest.mark.attack(number=22, attacker=ROOT, asset=NODE)
def test_022_a_verity_digest_relabelled_as_a_file_digest(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    libc = sha256(SYSTEM_FILES[LIBC])
    record = make_record(f"/{LIBC}", libc, template="ima-ngv2")
    node.append(replace(record_of(record.data.replace(b"ima:", b"ver:")), template="ima-ng"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=22, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_022_a_verity_digest_is_no_file_digest(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    path, libc = f"/{LIBC}".encode(), sha256(SYSTEM_FILES[LIBC])
    fields = (b"verity:sha256:\0" + libc, path + b"\0", b"")
    data = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
    node.append(record_of(data, register=register, template="ima-sigv2"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_VERITY}


@pytest.mark.attack(number=23, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("register", "expected"),
    [
        (12, {Reason.LIST_REPLAY}),
        (11, {Reason.LIST_REPLAY, Reason.LIST_REGISTER}),
        (0, {Reason.LIST_REPLAY, Reason.LIST_REGISTER}),
    ],
)
def test_023_an_unknown_record_moved_to_another_register(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int, expected: set[Reason]
) -> None:
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    moved = replace(node.records[-1], register=register)
    forged = replace(evidence, records=encoded([*node.records[:-1], moved]))
    assert verifier.refusal(forged) == expected


@pytest.mark.attack(number=23, attacker=ROOT, asset=NODE)
def test_023_records_slipped_in_under_a_register_that_is_not_replayed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    slipped = make_record("/usr/bin/x", sha256(b"x"), register=9)
    forged = replace(evidence, records=encoded([*node.records[:3], slipped, *node.records[3:]]))
    assert verifier.refusal(forged) == {Reason.LIST_REGISTER}


@pytest.mark.attack(number=24, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("algorithm", "size", "expected"),
    [
        ("md5", 16, Reason.LIST_DIGEST),
        ("sha1", 20, Reason.LIST_DIGEST),
        ("sha224", 28, Reason.LIST_DIGEST),
        ("sha384", 48, Reason.LIST_HASH),
        ("sha512", 64, Reason.LIST_HASH),
        ("sm3", 32, Reason.LIST_HASH),
    ],
)
def test_024_a_digest_by_an_algorithm_that_the_file_chose(
    node: SimulatedNode, verifier: SimulatedVerifier, algorithm: str, size: int, expected: Reason
) -> None:
    """Or that `ima_hash=` did. Those that are not weak are in no reference set: another reason."""
    for register in (10, 13):
        digest = bytes([register]) * size
        node.measure_record("/usr/bin/x", digest, algorithm=algorithm, register=register)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    assert [finding.reason for finding in rejection.value.findings] == [expected, expected]


@pytest.mark.attack(number=90, attacker=ROOT, asset=NODE)
def test_090_a_kernel_that_tells_files_apart_by_sha1(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """With ima_hash=sha1 a collision hides the second file: no such list passes its first file.

    The kernel keeps one record per SHA-1 then. Its boot_aggregate says so already; here that one
    is right, as where the TPM has no SHA-1 bank.
    """
    node.measure_record("/usr/bin/x", hashlib.sha1(b"x").digest(), algorithm="sha1")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}


@pytest.mark.attack(number=25, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_025_a_file_read_around_the_page_cache(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.measure_record("/usr/bin/direct", ZERO, register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}
