"""Attacks on the measurement list: names, sizes and shapes, and where it begins and ends."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from evidence import Malformed
from evidence.ima import encode_values
from tests.simulated_keys import sha256
from tests.simulated_node import (
    LIBC,
    SYSTEM_FILES,
    SimulatedNode,
    encoded,
    make_record,
    record_of,
)
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"


@pytest.mark.attack(number=30, attacker=USER, asset=NODE)
@pytest.mark.attack(number=31, attacker=USER, asset=NODE)
@pytest.mark.attack(number=32, attacker=USER, asset=NODE)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/tmp/a\n10 0000 ima-sig sha256:00 /usr/bin/golden", id="line break"),
        pytest.param(b"/tmp/\xff\xfe\x1b[31m", id="not UTF-8, control characters"),
        pytest.param(b"/tmp/" + b"x" * 4000, id="long"),
        pytest.param(b"memfd:x", id="no slash"),
        pytest.param(b"", id="empty"),
        pytest.param(b"/usr/bin/a_b", id="a space that became _"),
    ],
)
def test_030_names_decide_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier, path: bytes
) -> None:
    golden = sha256(SYSTEM_FILES[LIBC])
    node.append(make_record(path, golden))
    verifier.judge(node.evidence(verifier.challenge()))
    node.append(make_record(path, sha256(b"evil")))
    challenge = verifier.challenge()
    assert verifier.refusal(node.evidence(challenge)) == {Reason.LIST_UNKNOWN}


HUGE = (1 << 31).to_bytes(4, "little")


@pytest.mark.attack(number=33, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=100, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(bytes(24) + HUGE, id="name of 2 GiB"),
        pytest.param(bytes(24) + b"\x07\0\0\0ima-sig" + HUGE, id="data of 2 GiB"),
        pytest.param(bytes(24) + b"\x07\0\0\0ima-sig\x10\0\0\0abc", id="data past the end"),
        pytest.param(b"\0", id="one byte"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"\xff" * 1000, id="ones"),
    ],
)
def test_033_lengths_that_lie(
    node: SimulatedNode, verifier: SimulatedVerifier, tail: bytes
) -> None:
    """Even after the quoted prefix, where nothing is judged, the list has to be one."""
    evidence = node.unsigned_evidence(verifier.challenge())
    for records in (evidence.records + tail, tail + evidence.records):
        with pytest.raises(Malformed):
            verifier.judge(replace(evidence, records=records))


@pytest.mark.attack(number=33, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda data: data + b"\0", id="a byte more"),
        pytest.param(lambda data: HUGE + data[4:], id="inner length of 2 GiB"),
        pytest.param(lambda data: data[:-1], id="a byte less"),
        pytest.param(lambda _: b"", id="nothing"),
    ],
)
def test_033_template_data_that_is_none(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: Callable[[bytes], bytes]
) -> None:
    data = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC])).data
    node.append(record_of(bend(data)))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=34, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("template", ["d-ng|n-ng|iuid", "ima-modsig", "evm-sig", "x"])
def test_034_a_template_that_is_not_known(
    node: SimulatedNode, verifier: SimulatedVerifier, template: str
) -> None:
    data = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC])).data
    node.append(record_of(data, template=template))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=35, attacker=ROOT, asset=NODE)
def test_035_a_record_of_the_legacy_template(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Of a file that is known: the kernel has extended it, the verifier reads it, and refuses."""
    digest = hashlib.sha1(SYSTEM_FILES[LIBC]).digest()
    data = encode_values("ima", (digest, f"/{LIBC}".encode()))
    legacy = record_of(data, template="ima")
    node.append(replace(legacy, template_hash=hashlib.sha1(legacy.hashed).digest()))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_LEGACY}


@pytest.mark.attack(number=36, attacker=ROOT, asset=NODE)
def test_036_a_list_cut_in_the_middle_of_a_record(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    ends = {0}
    for record in node.records:
        ends.add(max(ends) + len(record.encode()))
    for size in range(len(evidence.records)):
        cut = replace(evidence, records=evidence.records[:size])
        verifier.node = replace(verifier.node, clock=None)
        if size in ends:
            assert verifier.refusal(cut) == {Reason.LIST_REPLAY}
        else:
            with pytest.raises(Malformed):
                verifier.judge(cut)


@pytest.mark.attack(number=37, attacker="a big-endian node", asset=NODE)
def test_037_a_list_of_the_other_byte_order(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    swapped = b"".join(one.register.to_bytes(4, "big") + one.encode()[4:] for one in node.records)
    with pytest.raises(Malformed, match=r"register.*big-endian machine"):
        verifier.judge(replace(evidence, records=swapped))


@pytest.mark.attack(number=38, attacker=USER, asset=NODE)
def test_038_a_list_of_a_hundred_thousand_records(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Time and memory grow with the list: ten times this is a million, and some 110 MB.

    That was tried by hand: 28 s of CPU time on a busy machine, and 0.4 GB more than the list took.
    """
    digest = sha256(SYSTEM_FILES[LIBC])
    more = [make_record(f"/usr/lib/libc-{number}.so", digest) for number in range(100_000)]
    node.relist([*node.records, *more])
    message = node.evidence(verifier.challenge())
    start = time.process_time()
    assert verifier.judge(message).checkpoint.records == len(node.records)
    assert time.process_time() - start < 10


@pytest.mark.attack(number=39, attacker=ROOT, asset=NODE)
def test_039_a_list_whose_beginning_was_given_away(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Linux 7.2 can be built to let root take records out of it (CONFIG_IMA_STAGING).

    Debian builds it off, so no kernel to be had shows it. A verifier that has judged the records
    needs them no more; one that has not refuses the rest.
    """
    evidence = node.unsigned_evidence(verifier.challenge())
    trimmed = replace(evidence, records=encoded(node.records[3:]))
    assert verifier.refusal(trimmed) == {Reason.LIST_REPLAY}
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert (verdict.starts_over, verdict.checkpoint.records) == (False, len(node.records))
    verifier.checkpoint, verifier.measured = None, ()
    evidence = node.unsigned_evidence(verifier.challenge())
    trimmed = replace(evidence, records=encoded(node.records[3:]))
    assert verifier.refusal(trimmed) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=40, attacker=ROOT, asset=NODE)
def test_040_the_node_does_not_choose_where_the_list_begins(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    evidence = node.unsigned_evidence(verifier.challenge())
    whole = replace(evidence, records=encoded(node.records))
    assert accepted(verifier.judge(whole)) == []
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    whole = replace(evidence, records=encoded(node.records))
    assert verifier.refusal(whole) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=41, attacker="time", asset=NODE)
def test_041_a_list_ahead_of_its_quote(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    challenge = verifier.challenge()
    quoted = node.unsigned_evidence(challenge)
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    verdict = verifier.judge(replace(quoted, records=encoded(node.records)))
    assert verdict.checkpoint.records == len(node.records) - 1
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert verdict.checkpoint.records == len(node.records)
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert verdict.measured == ()


@pytest.mark.attack(number=41, attacker="time", asset=NODE)
def test_041_a_quote_ahead_of_its_list(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    before = encoded(node.records)
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    evidence = node.unsigned_evidence(verifier.challenge(), records=before)
    assert verifier.refusal(evidence) == {Reason.LIST_REPLAY}
