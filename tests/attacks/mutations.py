"""What can be done to a real kernel's measurement list, each by its name, and what comes of it.

`adopt` makes a real list that of a simulated node: its records as the kernel wrote them, but for
those of another boot or policy and those that nobody could know. `MUTATIONS` change such a list,
after the kernel extended the registers or before; `BROKEN` make it no list at all.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from evidence import Malformed
from evidence.ima import (
    EVIDENCE_TEMPLATES,
    Measurement,
    Record,
    encode_values,
    read_measurement,
    read_records,
)
from tests.shared_vectors import VECTORS
from tests.simulated_keys import sha256
from tests.simulated_node import KERNEL_POLICY, SimulatedNode, encoded, make_record, record_of
from verifier.policy import ReferenceSet
from verifier.reasons import Reason

LISTS = (
    "kernels/k6.1-sha1+sha256/binary_runtime_measurements",
    "kernels/k7.2-sha1+sha256/binary_runtime_measurements",
    "kernels/k6.12-forged-entry/real.bin",
    "kernels/debian12-boot/deb-a-minimal-6.12.bin",
    "kernels/debian12-boot/deb-tcb-7.2.bin",
    "ibmtss/sha1.log",
)

Records = list[Record]


def read_list(name: str) -> Records:
    """Return the records of a list beside the checkout."""
    return list(read_records((VECTORS / name).read_bytes()))


def _measurement(record: Record) -> Measurement | None:
    """Return what a record says if a node may send it, and a set can know it."""
    if record.is_violation or record.template not in EVIDENCE_TEMPLATES or record.register != 10:
        return None
    try:
        found = read_measurement(record)
    except Malformed:
        return None
    is_known = found.algorithm == "sha256" and not found.is_verity and any(found.digest)
    is_of_its_boot = b"policy" in found.path or found.path == b"boot_aggregate"
    return found if is_known and not is_of_its_boot else None


def adopt(node: SimulatedNode, records: Iterable[Record]) -> ReferenceSet:
    """Let the node's kernel have written this list; return the set that knows all of it."""
    kept = [(one, found) for one in records if (found := _measurement(one)) is not None]
    aggregate = make_record("boot_aggregate", node.boot_aggregate())
    policy = make_record("/etc/ima/ima-policy", sha256(KERNEL_POLICY))
    node.relist([aggregate, policy, *(record for record, _ in kept)])
    files = {f"record {at}": (found.digest,) for at, (_, found) in enumerate(kept)}
    return ReferenceSet(name="real", files=files)


class When(Enum):
    """Which list the registers of the quote are of."""

    AFTER = "the real one: somebody has changed the list since"
    BEFORE = "the changed one: the kernel has written it, or somebody has extended the register"
    PADDED = "the changed one, by a kernel before 5.8"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One change."""

    number: int
    """Of the attack."""
    name: str
    when: When
    mutate: Callable[[Records], Records]
    expected: frozenset[Reason]
    """Why the node is refused."""
    told: frozenset[Reason] = frozenset()
    """What `check-log`, which knows no registers, finds in the list."""


# Changing a record

PLACE = 5
"""Of the record that most mutations change: one of a file."""
EVIL = sha256(b"evil")


def _at(records: Records, change: Callable[[Record], Record], place: int = PLACE) -> Records:
    return [*records[:place], change(records[place]), *records[place + 1 :]]


def _remade(record: Record, **changes: object) -> Record:
    """Return a record of another measurement, its template hash right."""
    found = read_measurement(record)
    fields = {"path": found.path, "digest": found.digest, "template": record.template} | changes
    return make_record(**fields)  # type: ignore[arg-type]


def _path(records: Sequence[Record]) -> bytes:
    return read_measurement(records[PLACE]).path


def _violation(path: bytes) -> Record:
    return replace(make_record(path, bytes(32)), template_hash=bytes(20))


def _legacy(record: Record) -> Record:
    data = encode_values("ima", (hashlib.sha1(b"x").digest(), read_measurement(record).path[:255]))
    made = record_of(data, template="ima")
    return replace(made, template_hash=hashlib.sha1(made.hashed).digest())


def _verity(record: Record) -> Record:
    found = read_measurement(record)
    values = (b"verity:sha256:\0" + found.digest, found.path + b"\0")
    return record_of(encode_values("ima-ngv2", values), template="ima-ngv2")


def _buffer(name: str, data: bytes) -> Record:
    return make_record(name, sha256(data), template="ima-buf", last=data)


# The table


def _after(
    number: int,
    name: str,
    mutate: Callable[[Records], Records],
    *expected: Reason,
    told: Iterable[Reason] = (),
) -> Mutation:
    return Mutation(
        number=number,
        name=name,
        when=When.AFTER,
        mutate=mutate,
        expected=frozenset(expected),
        told=frozenset(told),
    )


def _before(
    number: int,
    name: str,
    mutate: Callable[[Records], Records],
    *expected: Reason,
    told: Iterable[Reason] = (),
) -> Mutation:
    return replace(_after(number, name, mutate, *expected, told=told), when=When.BEFORE)


MUTATIONS = (
    _after(15, "the last record dropped", lambda all_: all_[:-1], Reason.LIST_REPLAY),
    _after(15, "one dropped", lambda all_: all_[:PLACE] + all_[PLACE + 1 :], Reason.LIST_REPLAY),
    _after(
        15,
        "two in another order",
        lambda all_: [*all_[:PLACE], all_[PLACE + 1], all_[PLACE], *all_[PLACE + 2 :]],
        Reason.LIST_REPLAY,
    ),
    _after(
        15,
        "one twice",
        lambda all_: [*all_[:PLACE], all_[PLACE], *all_[PLACE:]],
        Reason.LIST_REPLAY,
    ),
    _after(
        19,
        "a record made to look like a violation",
        lambda all_: _at(all_, lambda one: replace(one, template_hash=bytes(20))),
        Reason.LIST_REPLAY,
        told=[Reason.LIST_VIOLATION],
    ),
    _before(
        20,
        "a violation under a known file's path",
        lambda all_: [*all_, _violation(_path(all_))],
        Reason.LIST_VIOLATION,
        told=[Reason.LIST_VIOLATION],
    ),
    _before(
        20,
        "a violation under no path",
        lambda all_: [*all_, replace(_violation(b""), data=b"")],
        Reason.LIST_VIOLATION,
        told=[Reason.LIST_VIOLATION],
    ),
    _after(
        21,
        "a file relabelled as critical data",
        lambda all_: _at(all_, lambda one: replace(one, template="ima-buf")),
        Reason.LIST_BUFFER,
        told=[Reason.LIST_BUFFER],
    ),
    _before(
        22,
        "a digest of fs-verity",
        lambda all_: _at(all_, _verity),
        Reason.LIST_VERITY,
    ),
    _before(
        22,
        "a digest of fs-verity relabelled as a file's",
        lambda all_: _at(all_, lambda one: replace(_verity(one), template="ima-ng")),
        Reason.LIST_TEMPLATE,
        told=[Reason.LIST_TEMPLATE],
    ),
    _after(
        23,
        "a record moved to register 11",
        lambda all_: _at(all_, lambda one: replace(one, register=11)),
        Reason.LIST_REPLAY,
        Reason.LIST_REGISTER,
    ),
    _after(
        23,
        "a record moved to the users' register",
        lambda all_: _at(all_, lambda one: replace(one, register=12)),
        Reason.LIST_REPLAY,
    ),
    _before(
        24,
        "an MD5 digest",
        lambda all_: _at(all_, lambda one: _remade(one, algorithm="md5", digest=b"m" * 16)),
        Reason.LIST_DIGEST,
        told=[Reason.LIST_DIGEST],
    ),
    _before(
        24,
        "a SHA-512 digest",
        lambda all_: _at(all_, lambda one: _remade(one, algorithm="sha512", digest=b"5" * 64)),
        Reason.LIST_HASH,
    ),
    _before(
        90,
        "a SHA-1 digest",
        lambda all_: _at(all_, lambda one: _remade(one, algorithm="sha1", digest=b"1" * 20)),
        Reason.LIST_DIGEST,
        told=[Reason.LIST_DIGEST],
    ),
    _before(
        25,
        "a digest of zeros",
        lambda all_: _at(all_, lambda one: _remade(one, digest=bytes(32))),
        Reason.LIST_DIGEST,
        told=[Reason.LIST_DIGEST],
    ),
    _before(
        28,
        "a second boot_aggregate",
        lambda all_: [*all_, _remade(all_[0], template="ima-ng")],
        Reason.BOOT_AGGREGATE_AGAIN,
        told=[Reason.BOOT_AGGREGATE_AGAIN],
    ),
    _before(
        28,
        "a second one by its late name",
        lambda all_: [*all_, _remade(all_[0], path=b"boot_aggregate_late")],
        Reason.BOOT_AGGREGATE_AGAIN,
        told=[Reason.BOOT_AGGREGATE_AGAIN],
    ),
    _before(
        29,
        "a late boot_aggregate of zeros",
        lambda all_: [make_record("boot_aggregate_late", bytes(32)), *all_[1:]],
        Reason.BOOT_AGGREGATE,
        told=[Reason.LIST_DIGEST],
    ),
    _before(
        30,
        "a name that writes a line",
        lambda all_: [*all_, make_record(b"/tmp/x\n10 00 ima-ng sha256:00 " + _path(all_), EVIL)],
        Reason.LIST_UNKNOWN,
    ),
    _before(
        31,
        "a name of odd bytes",
        lambda all_: [*all_, make_record(b"\xff\xfe" + b"x" * 1000, EVIL)],
        Reason.LIST_UNKNOWN,
    ),
    _before(
        32,
        "another file under a known one's path",
        lambda all_: [*all_, make_record(_path(all_), EVIL)],
        Reason.LIST_UNKNOWN,
    ),
    _after(
        34,
        "a template by the name of its fields",
        lambda all_: _at(all_, lambda one: replace(one, template="d-ng|n-ng|sig")),
        Reason.LIST_TEMPLATE,
    ),
    _after(
        34,
        "a template that nobody knows",
        lambda all_: _at(all_, lambda one: replace(one, template="ima-next")),
        Reason.LIST_TEMPLATE,
        told=[Reason.LIST_TEMPLATE],
    ),
    _before(
        35,
        "a record of the first template",
        lambda all_: _at(all_, _legacy),
        Reason.LIST_LEGACY,
        told=[Reason.LIST_LEGACY, Reason.LIST_DIGEST],
    ),
    _after(39, "the beginning given away", lambda all_: all_[PLACE:], Reason.LIST_REPLAY),
    Mutation(
        number=42,
        name="a kernel before 5.8",
        when=When.PADDED,
        mutate=lambda all_: all_,
        expected=frozenset([Reason.LIST_PADDED]),
    ),
    _before(44, "nothing but boot_aggregate", lambda all_: all_[:1], Reason.KERNEL_POLICY_MISSING),
    _before(
        45,
        "a kernel policy that was not measured",
        lambda all_: [all_[0], *all_[2:]],
        Reason.KERNEL_POLICY_MISSING,
    ),
    _before(
        45,
        "a kernel policy loaded last",
        lambda all_: [all_[0], *all_[2:], all_[1]],
        Reason.KERNEL_POLICY_LATE,
    ),
    _before(
        47,
        "a second kernel policy",
        lambda all_: [*all_, make_record("/etc/ima/ima-policy", EVIL)],
        Reason.KERNEL_POLICY_AGAIN,
    ),
    _before(
        48,
        "a key added to .ima",
        lambda all_: [*all_, _buffer(".ima", b"0\x82 a certificate")],
        Reason.LIST_UNKNOWN,
    ),
    _before(
        48,
        "SELinux no longer enforcing",
        lambda all_: [*all_, _buffer("selinux-state", b"initialized=1;enforcing=0;")],
        Reason.LIST_UNKNOWN,
    ),
    _before(
        48,
        "a module that was loaded from memory",
        lambda all_: [*all_, _buffer("init_module", sha256(b"module"))],
        Reason.LIST_UNKNOWN,
    ),
    _after(
        99,
        "a template hash that is not its data's",
        lambda all_: _at(all_, lambda one: replace(one, template_hash=b"h" * 20)),
        Reason.LIST_TEMPLATE_HASH,
        told=[Reason.LIST_TEMPLATE_HASH],
    ),
    _after(
        99,
        "data changed under its template hash",
        lambda all_: _at(all_, lambda one: replace(one, data=_remade(one, digest=EVIL).data)),
        Reason.LIST_REPLAY,
        Reason.LIST_TEMPLATE_HASH,
        told=[Reason.LIST_TEMPLATE_HASH],
    ),
    _after(
        99,
        "data and template hash changed",
        lambda all_: _at(all_, lambda one: _remade(one, digest=EVIL)),
        Reason.LIST_REPLAY,
    ),
)  # fmt: skip
"""Each is refused, wherever the list is a real one."""


# No list any more

HUGE = (1 << 31).to_bytes(4, "little")
_HEAD_BYTES = 4 + 20
"""Register and template hash."""


def _swapped(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _of_other_byte_order(records: Records) -> bytes:
    """Return the list as a big-endian kernel writes it: every number, those in the data too."""
    parts = []
    for record in records:
        data, fields = record.data, []
        while data:
            size = int.from_bytes(data[:4], "little")
            fields.append(_swapped(size) + data[4 : 4 + size])
            data = data[4 + size :]
        name, inner = record.template.encode(), b"".join(fields)
        parts += [_swapped(record.register), record.template_hash, _swapped(len(name)), name]
        parts += [_swapped(len(inner)), inner]
    return b"".join(parts)


def _with_length(records: Records, at: int, length: bytes) -> bytes:
    """Return the list, one of a record's lengths changed."""
    record = records[PLACE].encode()
    bent = record[:at] + length + record[at + 4 :]
    return encoded(records[:PLACE]) + bent + encoded(records[PLACE + 1 :])


def _data_at(records: Records) -> int:
    return _HEAD_BYTES + 4 + len(records[PLACE].template)


BROKEN: dict[tuple[int, str], Callable[[Records], bytes]] = {
    (36, "cut in the middle of a record"): lambda all_: encoded(all_)[:-3],
    (37, "of the other byte order"): _of_other_byte_order,
    (100, "a name of 2 GiB"): lambda all_: _with_length(all_, _HEAD_BYTES, HUGE),
    (100, "data of 2 GiB"): lambda all_: _with_length(all_, _data_at(all_), HUGE),
    (100, "data up to the end and beyond"): lambda all_: _with_length(
        all_, _data_at(all_), (1 << 20).to_bytes(4, "little")
    ),
    (100, "template hashes of another length"): lambda all_: encoded(
        replace(one, template_hash=one.template_hash + bytes(12)) for one in all_
    ),
}
"""By number and name."""
