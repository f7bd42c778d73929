"""The measurement list: records as the kernel writes them, and lists that kernels have written."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed
from evidence.ima import (
    DIGEST_BYTES,
    EVIDENCE_TEMPLATES,
    TEMPLATES,
    Record,
    encode_template,
    read_measurement,
    read_records,
)
from tests.evidence.shapes import flips, records
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode, make_record, record_of

few = settings(max_examples=100, deadline=None)

paths = st.binary(max_size=60).filter(lambda path: b"\0" not in path)


@few
@given(st.lists(records, max_size=5))
def test_round_trip(some: list[Record]) -> None:
    encoded = b"".join(record.encode() for record in some)
    assert list(read_records(encoded)) == some


@few
@given(st.lists(records, min_size=1, max_size=4))
def test_every_truncation_is_malformed_but_between_records(some: list[Record]) -> None:
    encoded = b"".join(record.encode() for record in some)
    ends = {sum(len(one.encode()) for one in some[:count]): count for count in range(len(some))}
    for size in range(len(encoded)):
        if size in ends:
            assert list(read_records(encoded[:size])) == some[: ends[size]]
        else:
            with pytest.raises(Malformed):
                list(read_records(encoded[:size]))


def test_every_flipped_bit_is_malformed_or_another_list() -> None:
    records = SimulatedNode().records[:4]
    encoded = b"".join(record.encode() for record in records)
    for flipped in flips(encoded):
        try:
            read = list(read_records(flipped))
        except Malformed:
            continue
        assert read != records
        assert b"".join(record.encode() for record in read) == flipped


@few
@given(st.binary(max_size=200))
def test_junk_is_malformed_or_read_whole(junk: bytes) -> None:
    try:
        read = list(read_records(junk))
    except Malformed:
        return
    assert b"".join(record.encode() for record in read) == junk


@pytest.mark.parametrize("template", EVIDENCE_TEMPLATES)
@few
@given(data=st.data(), path=paths, last=st.binary(max_size=80))
def test_what_a_template_says(template: str, data: st.DataObject, path: bytes, last: bytes) -> None:
    algorithm = data.draw(st.sampled_from(sorted(DIGEST_BYTES)))
    size = DIGEST_BYTES[algorithm]
    digest = data.draw(st.binary(min_size=size, max_size=size))
    encoded = encode_template(template, algorithm=algorithm, digest=digest, path=path, last=last)
    read = read_measurement(record_of(encoded, template=template))
    assert (read.algorithm, read.digest, read.path) == (algorithm, digest, path)
    assert not read.is_verity
    fields = TEMPLATES[template]
    assert read.signature == (last if "sig" in fields else b"")
    assert read.buffer == (last if "buf" in fields else None)


@pytest.mark.parametrize("template", EVIDENCE_TEMPLATES)
def test_template_data_cut_or_flipped_is_malformed_or_something_else(template: str) -> None:
    record = make_record("/usr/bin/x", sha256(b"x"), template=template, last=b"last")
    original = read_measurement(record)
    cuts = [record.data[:size] for size in range(len(record.data))]
    for bent in (*cuts, record.data + b"\0", *flips(record.data)):
        try:
            assert read_measurement(record_of(bent, template=template)) != original
        except Malformed:
            continue
    for cut in cuts:
        with pytest.raises(Malformed):
            read_measurement(record_of(cut, template=template))


@given(data=st.binary(max_size=120), template=st.sampled_from(sorted(TEMPLATES)))
def test_junk_in_a_template_is_malformed(data: bytes, template: str) -> None:
    with pytest.raises(Malformed):
        read_measurement(record_of(data, template=template))


@pytest.mark.parametrize(
    "digest",
    [b"sha256:" + bytes(32), b"sha256\0" + bytes(32), b"crc32:\0" + bytes(32), b"sha256:\0short",
     b"SHA256:\0" + bytes(32), b":\0", b"ima:sha256:\0" + bytes(32)],
)  # fmt: skip
def test_a_digest_field_of_another_form_is_malformed(digest: bytes) -> None:
    fields = (digest, b"/x\0")
    data = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
    with pytest.raises(Malformed):
        read_measurement(record_of(data, template="ima-ng"))


# Lists that kernels have written (shared/vectors, where that is present)


def replayed(encoded: bytes, bank: str, register: int = 10) -> str:
    value = bytes(hashlib.new(bank).digest_size)
    for record in read_records(encoded):
        if record.register == register:
            value = hashlib.new(bank, value + record.extension(bank)).digest()
    return value.hex()


def bad_template_hashes(encoded: bytes) -> list[int]:
    return [
        index
        for index, record in enumerate(read_records(encoded))
        if not record.is_violation
        and record.template_hash != hashlib.sha1(record.hashed, usedforsecurity=False).digest()
    ]


@needs_vectors
@pytest.mark.parametrize("name", ["ibmtss/sha1.log", "ibmacs/imasig.log"])
def test_a_real_list(name: str) -> None:
    """The second one was altered by its authors: at one record, which the hash shows."""
    encoded = next(path for path in VECTORS.rglob(Path(name).name) if str(path).endswith(name))
    data = encoded.read_bytes()
    expected = json.loads((VECTORS / "expected.json").read_text())["ima"][name]
    assert sum(1 for _ in read_records(data)) == expected["entries"]
    assert bad_template_hashes(data) == expected["bad_template_hash_at"]
    for bank, value in expected["final"]["10"].items():
        assert replayed(data, bank) == value
    assert all(read_measurement(record).path for record in read_records(data))


@needs_vectors
def test_a_list_with_a_template_hash_of_another_size_is_malformed() -> None:
    data = (VECTORS / "ibmtss" / "sha256.log").read_bytes()
    with pytest.raises(Malformed):
        list(read_records(data))


@needs_vectors
def test_a_list_of_a_thousand_records() -> None:
    folder = VECTORS / "made-here"
    data = (folder / "ima-1000.bin").read_bytes()
    expected = json.loads((folder / "ima-1000.meta.json").read_text())
    assert replayed(data, "sha256") == expected["pcr10"]["sha256"]
    assert replayed(data, "sha1") == expected["pcr10"]["sha1"]
    assert bad_template_hashes(data) == []


@needs_vectors
@pytest.mark.parametrize("name", ["deb-tcb-6.12", "deb-tcb-7.2", "deb-b-scripts-root-6.12"])
def test_a_list_of_an_ordinary_boot(name: str) -> None:
    data = (VECTORS / "kernels" / "debian12-boot" / f"{name}.bin").read_bytes()
    first, *rest = list(read_records(data))
    assert read_measurement(first).path == b"boot_aggregate"
    assert bad_template_hashes(data) == []
    assert all(record.is_violation or read_measurement(record) for record in rest)


@needs_vectors
def test_an_invented_record_replays_to_a_genuine_quote() -> None:
    """Why nothing known in a list proves anything, and only the closed world does."""
    folder = VECTORS / "kernels" / "k6.12-forged-entry"
    quoted = json.loads((folder / "pcrs.json").read_text())["10"]
    real = [record.encode() for record in read_records((folder / "real.bin").read_bytes())]
    invented = (folder / "forged_entry.bin").read_bytes()
    assert replayed(b"".join([*real[:81], invented, *real[81:]]), "sha256") == quoted
    assert replayed(b"".join(real), "sha256") != quoted
