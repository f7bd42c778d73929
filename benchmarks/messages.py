"""Messages, documents and credentials: what is judged before or besides a node's list."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from benchmarks import lists
from benchmarks.evidence import World
from benchmarks.junk import broken
from benchmarks.refusing import Group
from credential import Malformed as CredentialMalformed
from credential import Refused
from evidence import Evidence, tpm
from evidence.certificate import Certificate
from evidence.messages import Enrol, SignedMessage
from tests.credential import world as relying
from tests.simulated_keys import private_key, sha256
from tests.simulated_node import NOW, SimulatedNode, make_challenge
from tests.simulated_tpm import MANUFACTURER, SimulatedManufacturer
from verifier.endorsement import Trust
from verifier.enrolment import judge_enrolment
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference, read_reference

RECORDS = 1000


def all_groups() -> Iterator[Group]:
    """Yield every group."""
    yield evidence()
    yield enrolment()
    yield documents(RECORDS)
    yield credentials()


def evidence() -> Group:
    """Return evidence with what may be wrong with its envelope, its quote and its encoding."""
    world = World((lists.reference(RECORDS),))
    good = [lists.known(one) for one in range(RECORDS)]
    honest = world.evidence(good)
    message = SignedMessage.decode(honest)
    judged = Evidence.decode(message.payload)
    room = len(honest) - 3000
    attest = tpm.Attest.decode(judged.quote)
    bad = broken(room) | {
        f"well signed: {name}": world.node.signed(junk).encode()
        for name, junk in broken(room - 100).items()
    }
    bad |= {
        "cut by one byte": honest[:-1],
        "a byte too many": honest[:-1] + b"\x40\0",
        "the first bit wrong": bytes([honest[0] ^ 1]) + honest[1:],
        "signed by nobody": replace(message, signature=bytes(64)).encode(),
        "signed by another key": replace(message, key=_point()).encode(),
        "a key that is none": replace(message, key=b"\4" + b"\1" * 64).encode(),
    }
    changed = {
        "of another node": replace(judged, node="build-8"),
        "of another challenge": world.node.unsigned_evidence(
            make_challenge(world.node.name, nonce=bytes(32))
        ),
        "of another TPM": replace(judged, signature=SimulatedNode("x").tpm.signature(judged.quote)),
        "a quote that nobody signed": replace(judged, signature=_signature(bytes(32))),
        "a signature that is none": replace(judged, signature=bytes(72)),
        "an RSA signature of 512 bytes": replace(
            judged, records=judged.records[600:], signature=_rsa_signature()
        ),
        "no quote": replace(judged, quote=bytes(100)),
        "of other registers": world.node.unsigned_evidence(
            world.challenge,
            records=judged.records[200:],
            quote={"attested": _selecting(attest)},
        ),
        "register values that are not the quoted": replace(
            judged, registers=(bytes(32), *judged.registers[1:])
        ),
        "register values as many as fit": replace(
            judged, records=b"", registers=(b"",) * min(room, 1 << 16)
        ),
        "instances as many as fit": _with_instances(world, room),
        "another body": replace(judged, body=judged.body[:-1] + b"\x81"),
    }
    bad |= {name: world.signed(one) for name, one in changed.items()}
    world.demand_no_longer(bad, honest)
    return Group(
        name=f"evidence of {len(honest)} bytes",
        accept=partial(world.judge, honest),
        refuse={name: partial(world.judge, one) for name, one in bad.items()},
    )


def _point() -> bytes:
    numbers = private_key("nobody").public_key().public_numbers()
    return b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def _signature(value: bytes) -> bytes:
    values = (b"\1" + value[1:],) * 2
    return tpm.Signature(scheme=tpm.ALG_ECDSA, hash=tpm.ALG_SHA256, values=values).encode()


def _rsa_signature() -> bytes:
    values = (b"\1" * 512,)
    return tpm.Signature(scheme=tpm.ALG_RSASSA, hash=tpm.ALG_SHA256, values=values).encode()


def _selecting(attest: tpm.Attest) -> tpm.Quote:
    assert isinstance(attest.attested, tpm.Quote)
    selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=(0, 10), size_bytes=4)
    return replace(attest.attested, selections=(selection,) * tpm.MOST_SELECTIONS)


def _with_instances(world: World, room: int) -> Evidence:
    """Return evidence of a boot in which attestors started as often as there is room for."""
    count = min((room - 200) // 34, 1 << 16)
    starts = [sha256(b"start %d" % number) for number in range(count)]
    world.node.relist(world.head)
    register = bytes(32)
    for start in starts:
        register = hashlib.sha256(register + start).digest()
    before = world.node.tpm.registers[15]
    world.node.tpm.registers[15] = register
    found = world.node.unsigned_evidence(
        world.challenge, body=world.node.body(instances=tuple(starts))
    )
    world.node.tpm.registers[15] = before
    return found


def enrolment() -> Group:
    """Return introductions, each with a certificate."""
    node = SimulatedNode()
    good = node.enrol_message()
    other = SimulatedManufacturer("Other TPMs")
    twin = SimulatedManufacturer()
    twin.key = private_key("twin")
    bad = {
        "an EK that is none": replace(good, ek_public=bytes(len(good.ek_public))),
        "an AK that may decrypt": replace(good, ak_public=good.ek_public),
        "a certificate by another maker": replace(
            good, ek_certificate=other.certify(node.tpm.ek_key.public_key())
        ),
        "a certificate by a maker of the same name": replace(
            good, ek_certificate=twin.certify(node.tpm.ek_key.public_key())
        ),
        "a certificate of another EK": replace(
            good, ek_certificate=MANUFACTURER.certify(private_key("other").public_key())
        ),
        "a certificate for another use": replace(
            good,
            ek_certificate=MANUFACTURER.certify(node.tpm.ek_key.public_key(), usage="2.23.133.8.3"),
        ),
        "a certificate of a CA": replace(
            good, ek_certificate=MANUFACTURER.certify(node.tpm.ek_key.public_key(), ca=True)
        ),
        "a certificate that has ended": replace(
            good,
            ek_certificate=MANUFACTURER.certify(
                node.tpm.ek_key.public_key(), end=NOW - timedelta(days=1)
            ),
        ),
        "a certificate that is none": replace(
            good, ek_certificate=b"\x30\x82" + bytes(len(good.ek_certificate) - 2)
        ),
        "a name that is none": replace(good, node="../" * 20),
    }
    return Group(
        name="enrolment with a certificate",
        accept=partial(_enrol, good.encode()),
        refuse={name: partial(_enrol, one.encode()) for name, one in bad.items()},
    )


def _enrol(message: bytes) -> object:
    return judge_enrolment(
        Enrol.decode(message),
        holder=None,
        ek_holder="",
        inventory=frozenset(),
        trust=Trust(roots=(Certificate.decode(MANUFACTURER.root()),)),
        require_certificate=True,
        now=NOW,
    )


def documents(size: int) -> Group:
    """Return reference sets of so many files."""
    files = {f"usr/lib/file{number:06}": (sha256(b"%d" % number),) for number in range(size)}
    text = encode_reference(ReferenceSet(name="libraries", files=files))
    last = text.rindex("sha256:")
    bad = {
        "the last digest too short": text[: last + 20] + '"\n',
        "the last path absolute": text.replace('"usr/lib/file000999"', '"/usr/lib/file00099"'),
        "no end": text[:-2],
        "a path twice": text.replace("file000999", "file000000"),
        "as many unknown keys": text.replace("[files]", ""),
        "arrays within arrays": "a = " + "[" * (len(text) - 4),
        "a number of that length": "a = " + "1" * (len(text) - 4),
        "tables within tables": "[" + "a." * (len(text) // 2 - 4) + "a]",
        "what is no text": text[:-1] + "\udcff",
    }
    return Group(
        name=f"reference set of {size} files",
        accept=partial(read_reference, text),
        refuse={name: partial(read_reference, one) for name, one in bad.items()},
    )


def credentials() -> Group:
    """Return a token and its proof, as a relying party sees them."""
    token, proof = relying.TOKEN, relying.make_proof()
    bad = {
        "no proof": (token, None),
        "a proof by another key": (token, relying.make_proof(key=relying.OTHER_KEY)),
        "a token by another key": (relying.make_token(key=relying.OTHER_KEY), proof),
        "a proof of another token": (token, relying.make_proof("a.b.c")),
        "a proof of another request": (token, relying.make_proof(method="GET")),
        "a token of dots": ("." * len(token), proof),
        "a token of one letter": ("A" * len(token), proof),
        "a token cut by a letter": (token[:-1], proof),
        "a proof cut by a letter": (token, proof[:-1]),
    }
    return Group(
        name="token and proof",
        accept=partial(_check, token, proof),
        refuse={name: partial(_check, *pair) for name, pair in bad.items()},
    )


def _check(token: str, proof: str | None) -> bool:
    try:
        relying.accept(token, proof)
    except (Refused, CredentialMalformed):
        return False
    return True
