"""Every template of the list, custom formats, lists of every bank, and the list as text."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed
from evidence.ima import (
    DIGEST_BYTES,
    LIST_HASHES,
    TEMPLATES,
    Record,
    encode_values,
    fields_of,
    hash_of,
    read_measurement,
    read_records,
    read_values,
)
from evidence.ima_ascii import read_ascii_records
from tests.evidence.shapes import flips
from tests.shared_vectors import VECTORS, needs_vectors

KERNELS = VECTORS / "kernels"
few = settings(max_examples=60, deadline=None)

FORMATS = (*TEMPLATES, "d-ng|sig", "n-ng|d-ng", "n-ng|sig|d-ng", "n-ng|sig", "n", "sig", "d",
           "d-ng|n-ng|iuid", "d-ngv2|n", "d-ng|d-ng|n", "imode|n-ng|d-modsig")  # fmt: skip

names = st.binary(max_size=60).filter(lambda name: b"\0" not in name)


@st.composite
def digests(draw: st.DrawFn, field: str) -> bytes:
    algorithm = draw(st.sampled_from(sorted(DIGEST_BYTES)))
    size = DIGEST_BYTES[algorithm]
    digest = draw(st.binary(min_size=size, max_size=size))
    kind = draw(st.sampled_from([b"ima:", b"verity:"])) if field == "d-ngv2" else b""
    return kind + algorithm.encode() + b":\0" + digest


_VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "d": st.binary(min_size=20, max_size=20),
    "d-ng": digests("d-ng"),
    "d-ngv2": digests("d-ngv2"),
    "d-modsig": st.one_of(st.just(b""), digests("d-modsig")),
    "n": names.map(lambda name: name + b"\0"),
    "n-ng": names.map(lambda name: name + b"\0"),
    "xattrnames": st.sampled_from([b"", b"security.ima\0", b"security.selinux|security.ima\0"]),
    "xattrlengths": st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(b"".join),
    "iuid": st.just(b"") | st.binary(min_size=4, max_size=4),
    "igid": st.just(b"") | st.binary(min_size=4, max_size=4),
    "imode": st.just(b"") | st.binary(min_size=2, max_size=2),
}
"""Values of each field; those without a form of their own may be anything."""


def values_of(field: str) -> st.SearchStrategy[bytes]:
    return _VALUES.get(field, st.binary(max_size=60))


def hashed(record: Record, algorithm: str) -> Record:
    """Return the record with its template hash right."""
    right = hash_of(algorithm, record.hashed)
    assert right is not None
    return Record(
        register=record.register, template_hash=right, template=record.template, data=record.data
    )


@st.composite
def records(
    draw: st.DrawFn, template: str | None = None, *, algorithm: str = "sha1"
) -> tuple[Record, tuple[bytes, ...]]:
    """Return a record and the values of its fields."""
    name = draw(st.sampled_from(FORMATS)) if template is None else template
    fields = fields_of(name)
    assert fields is not None
    values = tuple(draw(values_of(field)) for field in fields)
    bare = Record(
        register=draw(st.integers(0, 23)),
        template_hash=b"",
        template=name,
        data=encode_values(name, values),
    )
    return hashed(bare, algorithm), values


@pytest.mark.parametrize("template", FORMATS)
@few
@given(data=st.data())
def test_values_round_trip(template: str, data: st.DataObject) -> None:
    record, values = data.draw(records(template))
    assert tuple(value for _, value in read_values(record)) == values
    assert list(read_records(record.encode())) == [record]


@pytest.mark.parametrize("algorithm", LIST_HASHES)
@few
@given(data=st.data())
def test_lists_of_every_bank_round_trip(algorithm: str, data: st.DataObject) -> None:
    some = [record for record, _ in data.draw(st.lists(records(algorithm=algorithm), max_size=4))]
    encoded = b"".join(record.encode() for record in some)
    size = LIST_HASHES[algorithm]
    assert list(read_records(encoded, template_hash_bytes=size)) == some


@pytest.mark.parametrize("template", FORMATS)
@few
@given(data=st.data())
def test_every_truncation_is_malformed(template: str, data: st.DataObject) -> None:
    record, _ = data.draw(records(template))
    encoded = record.encode()
    for size in range(1, len(encoded)):
        with pytest.raises(Malformed):
            list(read_records(encoded[:size]))
    for size in range(len(record.data)):
        with pytest.raises(Malformed):
            read_values(bent(record, record.data[:size]))


def bent(record: Record, data: bytes) -> Record:
    return Record(
        register=record.register,
        template_hash=record.template_hash,
        template=record.template,
        data=data,
    )


@pytest.mark.parametrize("template", FORMATS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_flipped_bit_is_malformed_or_another_record(
    template: str, data: st.DataObject
) -> None:
    record, _ = data.draw(records(template))
    for flipped in flips(record.encode()):
        try:
            read = list(read_records(flipped))
        except Malformed:
            continue
        assert read != [record]
        assert b"".join(one.encode() for one in read) == flipped
        for one in read:
            try:
                read_measurement(one)
            except Malformed:
                continue
    for flipped in flips(record.data):
        try:
            assert read_values(bent(record, flipped)) != read_values(record)
        except Malformed:
            continue


@given(data=st.binary(max_size=120), template=st.sampled_from(FORMATS))
def test_junk_in_a_template_is_malformed_or_its_values(data: bytes, template: str) -> None:
    record = Record(register=10, template_hash=bytes(20), template=template, data=data)
    try:
        values = read_values(record)
    except Malformed:
        return
    assert encode_values(template, [value for _, value in values]) == data


@pytest.mark.parametrize(
    ("template", "values"),
    [
        pytest.param("ima-ng", [b"sha256:\0" + bytes(31), b"/x\0"], id="digest too short"),
        pytest.param("ima-ng", [b"sm3:\0" + bytes(33), b"/x\0"], id="digest too long"),
        pytest.param("ima-ng", [b"verity:sha256:\0" + bytes(32), b"/x\0"], id="v2 in v1"),
        pytest.param("ima-ngv2", [b"sha256:\0" + bytes(32), b"/x\0"], id="v1 in v2"),
        pytest.param("d|n", [bytes(16), b"/x\0"], id="md5 in d"),
        pytest.param("n", [b""], id="no name"),
        pytest.param("n", [b"/x"], id="name without NUL"),
        pytest.param("n-ng", [b"/x\0y\0"], id="two NULs"),
        pytest.param("iuid|igid|imode", [bytes(4), bytes(4), bytes(4)], id="mode of 4 bytes"),
        pytest.param("xattrlengths", [bytes(5)], id="half a length"),
        pytest.param("xattrnames", [b"security.ima"], id="names without NUL"),
        pytest.param("ima-ng", [b"sha256:\0" + bytes(32)], id="a field too few"),
        pytest.param("n", [b"/x\0", b""], id="a field too many"),
        pytest.param("ima-next", [b""], id="unknown template"),
        pytest.param("d-ng||n", [b"", b"", b""], id="format with a hole"),
    ],
)
def test_values_of_another_form_are_malformed(template: str, values: list[bytes]) -> None:
    data = encode_values(template, values)
    with pytest.raises(Malformed):
        read_values(Record(register=10, template_hash=bytes(20), template=template, data=data))


@pytest.mark.parametrize("template", ["n", "n-ng|sig", "d-ng|sig", "d-ng|d-ng|n", "n|n-ng|d"])
def test_a_measurement_has_one_digest_and_one_name(template: str) -> None:
    some = {
        "n": b"/x\0",
        "n-ng": b"/x\0",
        "sig": b"",
        "d": bytes(20),
        "d-ng": b"md5:\0" + bytes(16),
    }
    data = encode_values(template, [some[field] for field in template.split("|")])
    record = Record(register=10, template_hash=bytes(20), template=template, data=data)
    assert read_values(record)
    with pytest.raises(Malformed, match="one digest and one name"):
        read_measurement(record)


def test_an_unknown_algorithm_has_the_form_of_a_digest_and_measures_nothing() -> None:
    data = encode_values("ima-ng", [b"crc32:\0" + bytes(4), b"/x\0"])
    record = Record(register=10, template_hash=bytes(20), template="ima-ng", data=data)
    assert read_values(record)[0] == ("d-ng", b"crc32:\0" + bytes(4))
    with pytest.raises(Malformed, match="known digest algorithm"):
        read_measurement(record)


# The legacy template


def legacy(name: bytes) -> Record:
    return Record(
        register=10,
        template_hash=bytes(20),
        template="ima",
        data=encode_values("ima", [b"d" * 20, name]),
    )


def test_the_legacy_hash_covers_a_padded_name() -> None:
    assert legacy(b"/x").hashed == b"d" * 20 + b"/x" + bytes(254)
    assert len(legacy(b"n" * 255).hashed) == 20 + 256


@pytest.mark.parametrize("name", [b"n" * 256, b"/x\0y"], ids=["too long", "NUL within"])
def test_a_legacy_name_that_its_hash_would_not_tell_from_another_is_malformed(name: bytes) -> None:
    with pytest.raises(Malformed):
        list(read_records(legacy(name).encode()))


def test_a_list_of_a_big_endian_machine_is_malformed_and_named() -> None:
    with pytest.raises(Malformed, match="big-endian"):
        list(read_records((10).to_bytes(4, "big") + bytes(40)))


def test_kernels_before_5_8_extend_other_banks_with_sha1_and_zeros() -> None:
    record = legacy(b"/x")
    assert record.padded_extension("sha256") == b"\xff" * 20 + bytes(12)
    record = hashed(record, "sha1")
    assert record.padded_extension("sha256") == record.template_hash + bytes(12)
    assert record.padded_extension("sha1") == record.extension("sha1")


# As text


def as_text(record: Record) -> bytes:
    """Return the record as the kernel shows it (`ima_ascii_measurements_show`)."""
    shown = [f"{record.register:2} {record.template_hash.hex()} {record.template}".encode()]
    for field, value in read_values(record):
        if field in ("n", "n-ng", "xattrnames"):
            shown.append(value.removesuffix(b"\0"))
        elif field in ("iuid", "igid", "imode"):
            shown.append(str(int.from_bytes(value, "little")).encode() if value else b"")
        elif field.startswith("d-") and value:
            kind, digest = value.split(b"\0", 1)
            shown.append(kind + digest.hex().encode())
        else:
            shown.append(value.hex().encode())
    return b" ".join(shown) + b"\n"


@pytest.mark.parametrize("algorithm", LIST_HASHES)
@few
@given(data=st.data())
def test_a_list_in_text_round_trips(algorithm: str, data: st.DataObject) -> None:
    """But two names in a record, of which nobody can tell where one ends."""
    some = [record for record, _ in data.draw(st.lists(records(algorithm=algorithm), max_size=4))]
    text = b"".join(as_text(record) for record in some)
    assert list(read_ascii_records(text, template_hash_bytes=LIST_HASHES[algorithm])) == some


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_text_cut_or_changed_is_malformed_or_another_list(data: st.DataObject) -> None:
    record, _ = data.draw(records())
    text = as_text(record)
    for other in (*(text[:size] for size in range(len(text) - 1)), *flips(text)):
        try:
            read = list(read_ascii_records(other, template_hash_bytes=20))
        except Malformed:
            continue
        for one in read:
            assert isinstance(one.hashed, bytes)


@given(junk=st.binary(max_size=200), has_start=st.booleans())
def test_junk_is_no_list_in_text(*, junk: bytes, has_start: bool) -> None:
    start = b"10 " + b"00" * 20 + b" evm-sig " if has_start else b""
    try:
        list(read_ascii_records(start + junk, template_hash_bytes=20))
    except Malformed:
        return


def test_names_with_spaces_and_newlines_in_text() -> None:
    data = encode_values("ima-sig", [b"md5:\0" + bytes(16), b"/a b\nline\xff (deleted)\0", b"\3"])
    record = Record(register=10, template_hash=bytes(20), template="ima-sig", data=data)
    text = as_text(record) * 2
    assert list(read_ascii_records(text, template_hash_bytes=20)) == [record, record]


# Lists that kernels have written


@needs_vectors
@pytest.mark.parametrize(
    ("name", "algorithm", "quoted"),
    [
        ("k6.1-sha1+sha256/binary_runtime_measurements", "sha1", {10: 134, 11: 72}),
        ("k7.2-sha1+sha256/binary_runtime_measurements", "sha1", {10: 138, 11: 74}),
        ("k7.2-sha1+sha256/binary_runtime_measurements_sha1", "sha1", {10: 138, 11: 74}),
        ("k7.2-sha1+sha256/binary_runtime_measurements_sha256", "sha256", {10: 138, 11: 74}),
    ],
)
def test_a_list_with_every_template_leads_to_the_quoted_registers(
    name: str, algorithm: str, quoted: dict[int, int]
) -> None:
    """At the record named here; the list was read after the quote, and holds what came later."""
    data = (KERNELS / name).read_bytes()
    held = (KERNELS / name).with_name("quote.pcrs").read_bytes()
    values = {10: bytes(32), 11: bytes(32)}
    reached, seen = {}, set()
    records = read_records(data, template_hash_bytes=LIST_HASHES[algorithm])
    for index, record in enumerate(records):
        seen.add(record.template)
        extended = values[record.register] + record.extension("sha256")
        values[record.register] = hashlib.sha256(extended).digest()
        if values[record.register] in held:
            reached[record.register] = index
        if not record.is_violation:
            assert record.template_hash == hash_of(algorithm, record.hashed)
            assert read_measurement(record).path
    assert reached == quoted
    assert seen == set(TEMPLATES)


@needs_vectors
@pytest.mark.parametrize("name", ["k6.1-sha1+sha256", "k7.2-sha1+sha256"])
def test_the_list_in_text_is_the_binary_one(name: str) -> None:
    """But its violations: the kernel shows of them what it has not measured."""
    text = (KERNELS / name / "ascii_runtime_measurements").read_bytes()
    binary = (KERNELS / name / "binary_runtime_measurements").read_bytes()
    read = list(read_ascii_records(text, template_hash_bytes=20))
    assert read == list(read_records(binary))
    assert any(b"\n" in record.data for record in read)


@needs_vectors
def test_a_thousand_records_in_text_and_with_padded_extensions() -> None:
    folder = VECTORS / "made-here"
    binary = list(read_records((folder / "ima-1000.bin").read_bytes()))
    for name, size in (("ima-1000.ascii", 20), ("ima-1000.ascii256", 32)):
        text = (folder / name).read_bytes()
        read = list(read_ascii_records(text, template_hash_bytes=size))
        assert [record.data for record in read] == [record.data for record in binary]
    value = bytes(32)
    for record in binary:
        value = hashlib.sha256(value + record.padded_extension("sha256")).digest()
    expected = json.loads((folder / "ima-1000.meta.json").read_text())
    assert value.hex() == expected["pcr10"]["sha256_padded"]
