"""Measurement lists: appraised as evidence, and checked as files."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from benchmarks.evidence import World
from benchmarks.refusing import Group
from evidence.file_signature import OVER_DIGEST, FileSignature
from evidence.ima import SHA1_BYTES, Record, encode_values
from tests.simulated_keys import private_key, sha256
from tests.simulated_node import KERNEL_POLICY, make_record, record_of
from verifier.check_log import check_log
from verifier.crypto import file_keys
from verifier.policy import FileKey, ReferenceSet, Signer

Make = Callable[[int], Record]
"""Makes the record of this number."""

LIBRARIES = "usr/lib/x86_64-linux-gnu/libnumber"


def path_of(number: int) -> str:
    """Return the path of a file, of the length that paths have."""
    return f"{LIBRARIES}{number:07}.so.6"


def digest_of(number: int) -> bytes:
    """Return the digest of that file, which the reference set knows."""
    return sha256(b"library %d" % number)


def known(number: int) -> Record:
    """Return the record of a known file."""
    return make_record("/" + path_of(number), digest_of(number))


def reference(size: int) -> ReferenceSet:
    """Return the set that knows so many files."""
    return ReferenceSet(
        name="libraries", files={path_of(one): (digest_of(one),) for one in range(size)}
    )


def known_short(number: int) -> Record:
    """Return the record of the same file, of the shortest kind: a known one has any name."""
    return make_record(b"/a", digest_of(number), template="ima-ng")


def _unknown(number: int) -> Record:
    return make_record("/" + path_of(number), sha256(b"evil %d" % number))


def _unknown_short(number: int) -> Record:
    return make_record(b"/a", sha256(b"evil %d" % number), template="ima-ng")


def _short_of_user(_number: int) -> Record:
    return replace(_tiny_violation(0), register=12)


def _weak_short(_number: int) -> Record:
    return make_record(b"/a", b"\1" * 16, algorithm="md5", template="ima-ng")


def _known_name_long(number: int) -> Record:
    return make_record(b"\xff\n" * 2000 + b"%07d" % number, sha256(b"evil %d" % number))


def _violation(number: int) -> Record:
    return replace(known(number), template_hash=bytes(SHA1_BYTES))


def _tiny_violation(_number: int) -> Record:
    return Record(register=10, template_hash=bytes(SHA1_BYTES), template="x", data=b"")


def _tiny(_number: int) -> Record:
    return record_of(b"", template="x")


def _tiny_elsewhere(_number: int) -> Record:
    return record_of(b"", template="x", register=11)


def _short_path(_number: int) -> Record:
    return record_of(encode_values("n", (b"/\0",)), template="n")


def _other_register(number: int) -> Record:
    return replace(known(number), register=11)


def _legacy(number: int) -> Record:
    data = encode_values("ima", (digest_of(number)[:SHA1_BYTES], path_of(number).encode()))
    bare = Record(register=10, template_hash=b"", template="ima", data=data)
    return replace(bare, template_hash=hashlib.sha1(bare.hashed).digest())  # noqa: S324 - IMA's


def _unknown_template(number: int) -> Record:
    return replace(known(number), template="d-ng|n-ng|sigh")


def _cut_field(number: int) -> Record:
    return record_of(known(number).data[:-1])


def _wrong_buffer(number: int) -> Record:
    return replace(known(number), template="ima-buf")


def _digest(algorithm: str, size_bytes: int, number: int) -> Record:
    return make_record("/" + path_of(number), bytes(size_bytes), algorithm=algorithm)


def _verity(number: int) -> Record:
    values = (b"verity:sha256:\0" + digest_of(number), path_of(number).encode() + b"\0", b"")
    return record_of(encode_values("ima-sigv2", values), template="ima-sigv2")


def _aggregate(number: int) -> Record:
    filling = bytes(len("/" + path_of(number)) - len("boot_aggregate"))
    return make_record("boot_aggregate", digest_of(number), last=filling)


def _policy_again(number: int) -> Record:
    return make_record(
        path_of(number)[: -len("/ima-policy")] + "/ima-policy", sha256(KERNEL_POLICY)
    )


def _wrong_column(number: int) -> Record:
    return replace(known(number), template_hash=b"\1" * SHA1_BYTES)


EXTENDED: dict[str, Make] = {
    "every file unknown": _unknown,
    "every file unknown, its name odd and long": _known_name_long,
    "violations only": _violation,
    "violations only, as short as can be": _tiny_violation,
    "records as short as can be": _tiny,
    "short records of another register": _tiny_elsewhere,
    "every record of another register": _other_register,
    "the first template only": _legacy,
    "an unknown template only": _unknown_template,
    "every field cut short": _cut_field,
    "every record relabelled as a buffer": _wrong_buffer,
    "md5 digests only": partial(_digest, "md5", 16),
    "an unknown algorithm only": partial(_digest, "md6", 16),
    "zero digests only": partial(_digest, "sha256", 32),
    "fs-verity digests only": _verity,
    "boot aggregates only": _aggregate,
    "kernel policies only": _policy_again,
    "every template hash wrong": _wrong_column,
}
"""Lists that the registers agree with: the kernel, or who holds the TPM, has extended them so."""
EXTENDED_SHORT: dict[str, Make] = {
    "every file unknown": _unknown_short,
    "md5 digests only": _weak_short,
    "violations only": _tiny_violation,
    "templates without fields only": _tiny,
}
"""The same, of lists whose records are as short as can be."""


SHAPES: dict[str, Make] = {
    "of files": known,
    "of boot aggregates": _aggregate,
    "of unknown algorithms": partial(_digest, "md6", 16),
    "of the first template": _legacy,
    "relabelled as buffers": _wrong_buffer,
    "with names odd and long": _known_name_long,
    "as short as can be": _short_path,
}
"""Lists in files whose template hashes are right, whatever else they are."""


def appraised(size: int) -> Iterator[Group]:
    """Yield whole evidence whose list has so many records, as they are and as short as can be."""
    world = World((reference(size),))
    good = [known(one) for one in range(size)]
    honest = world.evidence(good)
    bad = _extended(world, good, EXTENDED)
    bad |= {name: world.resigned(list_) for name, list_ in _not_extended(world, good).items()}
    yield _judged(world, f"evidence with a list of {size} records", honest, bad)

    short = [known_short(one) for one in range(size)]
    bad = _extended(world, short, EXTENDED_SHORT)
    yield _judged(world, f"evidence with {size} short records", world.evidence(short), bad)

    # What users run is reported: whoever holds the TPM may write anything into their register.
    users = [_short_of_user(one) for one in range(3 * size)]
    bad = {"an unknown file at the end": world.evidence([*users[:-4], _unknown_short(0)])}
    honest = world.evidence([*users, known(0)])
    yield _judged(world, f"evidence with {3 * size} records of users", honest, bad)


def signed(size: int) -> Iterator[Group]:
    """Yield evidence of so many files that nobody knows but who has signed them."""
    key = private_key("vendor")
    signer = _signer("vendor", key)
    world = World(signers=(signer,))
    signatures = [_sign(key, signer, _evil(one)) for one in range(size)]
    other = _sign(private_key("other"), signer, _evil(0))

    def make(number: int, signature: bytes) -> Record:
        return make_record("/" + path_of(number), _evil(number), last=signature)

    good = [make(one, signature) for one, signature in enumerate(signatures)]
    shapes: dict[str, Make] = {
        "signatures over another digest": lambda one: make(one, signatures[(one + 1) % size]),
        "signatures by another key": lambda one: make(one, other),
        "signatures under an unknown key id": lambda one: make(
            one, other[:3] + b"none" + other[7:]
        ),
        "signatures that are none": lambda one: make(one, bytes(len(other))),
        "no signatures": lambda one: make(one, b""),
        "files that may not lie there": lambda one: make_record(
            f"/home/{path_of(one)[5:]}", _evil(one), last=signatures[one % size]
        ),
    }
    honest = world.evidence(good)
    bad = {
        name: world.evidence([shape(one) for one in range(size - size // 50 - 2)])
        for name, shape in shapes.items()
    }
    bad["the last signature wrong"] = world.evidence([*good[:-1], make(size - 1, other)])
    yield _judged(world, f"evidence with {size} signed files", honest, bad)


def _evil(number: int) -> bytes:
    return sha256(b"signed %d" % number)


def _signer(name: str, key: ec.EllipticCurvePrivateKey) -> Signer:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    spki = file_keys.file_key(pem.decode())
    file_key = FileKey(spki=spki, key_id=file_keys.file_key_id(spki))
    return Signer(name=name, keys=(file_key,), paths=("usr/",), revoked=frozenset())


def _sign(key: ec.EllipticCurvePrivateKey, signer: Signer, digest: bytes) -> bytes:
    """Return security.ima of a file, always of one length."""
    scheme = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
    return FileSignature(
        is_verity=False,
        version=OVER_DIGEST,
        algorithm="sha256",
        key_id=signer.keys[0].key_id,
        signature=key.sign(digest, scheme),
    ).encode()


def _judged(world: World, name: str, good: bytes, bad: Mapping[str, bytes]) -> Group:
    world.demand_no_longer(bad, good)
    return Group(
        name=name,
        accept=partial(world.judge, good),
        refuse={what: partial(world.judge, message) for what, message in bad.items()},
    )


def _extended(world: World, good: Sequence[Record], makes: Mapping[str, Make]) -> dict[str, bytes]:
    """Return lists of the same size that the registers agree with."""
    last = good[-1]  # in a register of the list: what follows the last of them is not judged
    room = sum(len(record.encode()) for record in good[:-1])
    return {
        name: world.evidence([*_as_many_as_fit(make, room), last]) for name, make in makes.items()
    }


def _as_many_as_fit(make: Make, room: int) -> list[Record]:
    """Return as many records as have room: whoever is refused chooses how to fill it."""
    records: list[Record] = []
    while (room := room - len((record := make(len(records))).encode())) >= 0:
        records.append(record)
    return records


def _not_extended(world: World, good: Sequence[Record]) -> dict[str, bytes]:
    """Return lists that the registers do not agree with."""
    world.evidence(good)
    data = encode(world.node.records)
    middle = len(data) // 2
    return {
        "cut by one byte": data[:-1],
        "cut in half": data[:middle],
        "a byte too many": data[: -len(good[-1].encode())] + good[-1].encode()[:-5] + b"\0",
        "the first bit wrong": flipped(data, 0),
        "the last bit wrong": flipped(data, len(data) - 1),
        "a bit in the middle wrong": flipped(data, middle),
        "a record left out": encode([*world.node.records[:-2], world.node.records[-1]]),
        "two records in the other order": encode(
            [*world.node.records[:-2], world.node.records[-1], world.node.records[-2]]
        ),
        "a record of another boot first": encode([*world.node.records[1:]]),
        "a length of four gigabytes": data[:24] + b"\xff" * 4 + data[28:],
    }


def encode(records: Iterable[Record]) -> bytes:
    """Return the list as the kernel writes it."""
    return b"".join(record.encode() for record in records)


def flipped(data: bytes, at: int) -> bytes:
    """Return the bytes with another bit at one place."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def checked(size: int) -> Iterator[Group]:
    """Yield lists in files of so many records, of each shape.

    Whatever a list holds is a finding there and no refusal; wrong template hashes refuse.
    """
    for shape, make in SHAPES.items():
        good = [make(one) for one in range(size)]
        data = encode(good)
        bad = {
            "every template hash wrong": encode(map(misstated, good)),
            "the last template hash wrong": encode([*good[:-1], misstated(good[-1])]),
            "the first bit of data wrong": flipped(data, len(good[0].encode()) - 1),
            "cut by one byte": data[:-1],
        }
        works = {name: partial(_is_consistent, one) for name, one in bad.items()}
        if make is known:
            works["of another bank"] = partial(_is_consistent, data, "sha256")
        yield Group(
            name=f"check-log of {size} records, {shape}",
            accept=partial(_is_consistent, data),
            refuse=works,
        )


def misstated(record: Record) -> Record:
    """Return the record with another template hash than that of its data."""
    return replace(record, template_hash=b"\1" * SHA1_BYTES)


def _is_consistent(data: bytes, log_hash: str = "sha1") -> bool:
    return check_log(data, log_hash=log_hash).is_consistent
