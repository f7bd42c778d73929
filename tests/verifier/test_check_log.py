"""`verifier check-log`: lists in files, whole or not, and what there is to say of them."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed
from evidence.ima import LIST_HASHES, Record, encode_values, hash_of, read_records
from evidence.ima_ascii import read_ascii_records
from tests.evidence.shapes import flips
from tests.shared_vectors import VECTORS, names, needs_vectors, or_absent
from tests.shared_vectors import expected as tabled
from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode, make_record, record_of
from verifier import file_tools
from verifier.__main__ import main
from verifier.check_log import MOST_OF_A_KIND, CheckedLog, check_log, log_hash_of
from verifier.commands import MISUSED, NO, UNKNOWN, YES
from verifier.hints import NEXT
from verifier.reasons import Reason

Out = pytest.CaptureFixture[str]


def encoded(*records: Record) -> bytes:
    return b"".join(record.encode() for record in records)


def reasons(checked: CheckedLog) -> list[Reason]:
    return [finding.reason for finding in checked.findings]


def with_hash(record: Record, algorithm: str) -> Record:
    right = hash_of(algorithm, record.hashed)
    assert right is not None
    return replace(record, template_hash=right)


GOOD = make_record("/usr/bin/x", sha256(b"x"))
AGGREGATE = make_record("boot_aggregate", sha256(b"boot"))
LEGACY = with_hash(record_of(encode_values("ima", [b"d" * 20, b"/x"]), template="ima"), "sha1")


def with_values(template: str, *values: bytes) -> Record:
    return record_of(encode_values(template, values), template=template)


# What is a finding, and what more


def test_a_good_list() -> None:
    checked = check_log(encoded(AGGREGATE, GOOD))
    assert (checked.entries, checked.violations, checked.templates) == (2, 0, {"ima-sig": 2})
    assert checked.is_consistent
    assert not checked.findings
    for bank, registers in checked.pcrs.items():
        value = bytes(hashlib.new(bank).digest_size)
        for record in (AGGREGATE, GOOD):
            value = hashlib.new(bank, value + hashlib.new(bank, record.data).digest()).digest()
        assert registers == {"10": value.hex()}
    assert list(checked.pcrs) == ["sha1", "sha256", "sha384", "sha512"]


ZERO = b"sha256:\0" + bytes(32)
FINDINGS = [
    pytest.param(replace(GOOD, template_hash=bytes(20)), Reason.LIST_VIOLATION, id="violation"),
    pytest.param(make_record("/x", bytes(16), algorithm="md5"), Reason.LIST_DIGEST, id="md5"),
    pytest.param(make_record("/x", b"1" * 20, algorithm="sha1"), Reason.LIST_DIGEST, id="sha1"),
    pytest.param(with_values("ima-ng", ZERO, b"/x\0"), Reason.LIST_DIGEST, id="zeros"),
    pytest.param(with_values("ima-next", b"?"), Reason.LIST_TEMPLATE, id="unknown template"),
    pytest.param(with_values("d-ng|uuid", ZERO, b"?"), Reason.LIST_TEMPLATE, id="unknown field"),
    pytest.param(replace(GOOD, template="ima-ng"), Reason.LIST_TEMPLATE, id="another template"),
    pytest.param(
        with_values("ima-ng", b"crc32:\0four", b"/x\0"), Reason.LIST_ALGORITHM, id="unknown digest"
    ),
    pytest.param(replace(GOOD, template="ima-buf"), Reason.LIST_BUFFER, id="a file as a buffer"),
    pytest.param(AGGREGATE, Reason.BOOT_AGGREGATE_AGAIN, id="kexec carry-over"),
]


@pytest.mark.parametrize(("record", "reason"), FINDINGS)
def test_a_finding_is_no_refusal(record: Record, reason: Reason) -> None:
    checked = check_log(encoded(AGGREGATE, GOOD, record, GOOD))
    assert checked.is_consistent
    assert reasons(checked) == [reason]
    assert checked.findings[0].what == "record 2"
    assert checked.violations == (reason is Reason.LIST_VIOLATION)


def test_a_legacy_record_is_old_and_weak() -> None:
    checked = check_log(encoded(AGGREGATE, LEGACY))
    assert checked.is_consistent
    assert reasons(checked) == [Reason.LIST_LEGACY, Reason.LIST_DIGEST]


@pytest.mark.parametrize(
    "record",
    [
        make_record("/x", sha256(b"x"), template="ima-ngv2"),
        make_record("/x", bytes(31) + b"1", algorithm="sm3"),
        make_record("/x", bytes(47) + b"1", algorithm="sha384"),
        with_values("ima-sigv2", b"verity:sha512:\0" + b"v" * 64, b"/a b\n\xff\0", b"\3"),
        with_values("d-ng|n", b"sha256:\0" + b"d" * 32, b"memfd:x\0"),
        with_values("n", b"/x\0"),
        with_values("ima-modsig", b"sha256:\0" + b"d" * 32, b"/x\0", b"", b"", b""),
        with_values("ima-buf", b"sha256:\0" + sha256(b"buffer"), b"label\0", b"buffer"),
    ],
    ids=lambda record: record.template,
)
def test_nothing_to_say(record: Record) -> None:
    checked = check_log(encoded(AGGREGATE, record))
    assert checked.is_consistent
    assert not checked.findings


def test_a_changed_record_is_the_one_refusal() -> None:
    changed = replace(GOOD, data=GOOD.data.replace(b"/usr/bin/x", b"/usr/bin/y"))
    checked = check_log(encoded(AGGREGATE, changed, GOOD))
    assert not checked.is_consistent
    assert reasons(checked) == [Reason.LIST_TEMPLATE_HASH]
    assert checked.findings[0].what == "record 1"


def test_many_findings_of_one_reason_hide_no_other() -> None:
    weak = make_record("/x", bytes(16), algorithm="md5")
    changed = replace(GOOD, template_hash=b"h" * 20)
    checked = check_log(encoded(AGGREGATE, *[weak] * (MOST_OF_A_KIND + 5), changed))
    assert not checked.is_consistent
    assert reasons(checked) == [Reason.LIST_DIGEST] * (MOST_OF_A_KIND + 1) + [
        Reason.LIST_TEMPLATE_HASH
    ]
    assert checked.findings[MOST_OF_A_KIND].found == "5 more"


def test_a_digest_of_a_megabyte_is_not_repeated_whole() -> None:
    record = with_values("ima-ng", b"crc32:\0" + bytes(1 << 19), b"/x\0")
    (finding,) = check_log(encoded(record)).findings
    assert finding.reason is Reason.LIST_ALGORITHM
    assert len(finding.found) < 300


def test_each_register_has_its_own_value() -> None:
    other = make_record("/y", sha256(b"y"), register=11)
    locked = make_record("/z", sha256(b"z"), register=17)
    pcrs = check_log(encoded(AGGREGATE, other, GOOD, locked)).pcrs["sha256"]
    assert pcrs["10"] == check_log(encoded(AGGREGATE, GOOD)).pcrs["sha256"]["10"]
    assert pcrs["11"] == sha256(bytes(32) + sha256(other.data)).hex()
    assert pcrs["17"] == sha256(b"\xff" * 32 + sha256(locked.data)).hex()


@pytest.mark.parametrize("algorithm", LIST_HASHES)
def test_lists_of_every_bank(algorithm: str) -> None:
    some = [with_hash(one, algorithm) for one in (AGGREGATE, GOOD, LEGACY)]
    checked = check_log(encoded(*some), log_hash=algorithm)
    assert checked.is_consistent
    assert checked.pcrs == check_log(encoded(AGGREGATE, GOOD, LEGACY)).pcrs


def test_sha1_and_zeros_in_a_larger_bank_are_reported() -> None:
    """The kernel extends that bank with the same; every other with what it computes."""
    some = [
        replace(one, template_hash=hashlib.sha1(one.data).digest() + bytes(12))
        for one in (AGGREGATE, GOOD)
    ]
    checked = check_log(encoded(*some), log_hash="sha256")
    assert checked.is_consistent
    assert reasons(checked) == [Reason.LIST_PADDED] * 2
    value = bytes(32)
    for one in some:
        value = sha256(value + one.template_hash)
    assert checked.pcrs["sha256"] == {"10": value.hex()}
    assert checked.pcrs["sha1"] == check_log(encoded(AGGREGATE, GOOD)).pcrs["sha1"]


# Lists that are none


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(encoded(GOOD)[:-1], id="cut"),
        pytest.param(encoded(GOOD) + b"\0", id="a byte more"),
        pytest.param(encoded(with_hash(GOOD, "sha256")), id="of another bank"),
        pytest.param((10).to_bytes(4, "big") + encoded(GOOD)[4:], id="big endian"),
        pytest.param(bytes(24) + b"\xff" * 8, id="length of 4 GiB"),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        check_log(data)
    with pytest.raises(Malformed):
        check_log(data, is_ascii=True)


def test_the_message_says_where_and_what_to_try() -> None:
    with pytest.raises(Malformed, match=r"record 1: .*sha1 template hashes\?"):
        check_log(encoded(GOOD) + encoded(with_hash(GOOD, "sha256")))


def test_every_flipped_bit_is_malformed_or_another_answer() -> None:
    records = SimulatedNode().records[:3]
    genuine = check_log(encoded(*records, LEGACY))
    for flipped in flips(encoded(*records, LEGACY)):
        try:
            checked = check_log(flipped)
        except Malformed:
            continue
        assert checked != genuine


@settings(max_examples=200, deadline=None)
@given(
    junk=st.binary(max_size=300), is_ascii=st.booleans(), log_hash=st.sampled_from([*LIST_HASHES])
)
def test_junk_is_malformed(*, junk: bytes, is_ascii: bool, log_hash: str) -> None:
    with pytest.raises(Malformed):
        check_log(junk, is_ascii=is_ascii, log_hash=log_hash)


def test_a_list_of_a_hundred_thousand_records_takes_seconds() -> None:
    data = encoded(*[GOOD] * 100_000)
    start = time.process_time()
    assert check_log(data).entries == 100_000
    assert time.process_time() - start < 20


# Lists in text


def test_text_shows_how_long_its_hashes_are() -> None:
    digest = sha256(b"x").hex()
    for algorithm in ("sha1", "sha256", "sha384", "sha512"):
        record = with_hash(with_values("ima-ng", b"sha256:\0" + sha256(b"x"), b"/x\0"), algorithm)
        text = f"10 {record.template_hash.hex()} ima-ng sha256:{digest} /x\n".encode()
        checked = check_log(text, is_ascii=True)
        assert checked.is_consistent
        assert not checked.findings
        for other in LIST_HASHES.keys() - {algorithm, "sm3"}:
            with pytest.raises(Malformed):
                check_log(text, is_ascii=True, log_hash=other)


def test_an_unknown_template_in_text_leaves_the_bank_of_the_list() -> None:
    """Nobody can compute what the other banks were extended with."""
    text = f"10 {'ab' * 32} ima-next what ever\n".encode()
    checked = check_log(text, is_ascii=True)
    assert checked.is_consistent
    assert reasons(checked) == [Reason.LIST_TEMPLATE]
    assert checked.pcrs == {"sha256": {"10": sha256(bytes(32) + b"\xab" * 32).hex()}}


def test_a_name_that_writes_a_line_breaks_its_own_record() -> None:
    name = b"/x\n10 " + b"ab" * 20 + b" ima-next /y"
    record = with_values("ima-ng", b"sha256:\0" + sha256(b"x"), name + b"\0")
    digest, shown = sha256(b"x").hex().encode(), record.template_hash.hex().encode()
    checked = check_log(b"10 %s ima-ng sha256:%s %s\n" % (shown, digest, name), is_ascii=True)
    assert not checked.is_consistent
    assert check_log(record.encode()).is_consistent


# The command


def run(capsys: Out, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    status = main(["check-log", *map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "binary_runtime_measurements"
    path.write_bytes(encoded(AGGREGATE, GOOD, LEGACY))
    return path


def test_exit_0_and_an_answer_of_five_members(log: Path, capsys: Out) -> None:
    status, answer = run(capsys, log)
    assert status == YES
    assert list(answer) == ["entries", "violations", "templates", "pcrs", "findings"]
    assert answer["templates"] == {"ima-sig": 2, "ima": 1}
    assert [list(one) for one in answer["findings"]] == [["reason", "detail"]] * 2
    assert answer["findings"][0]["reason"] == "ima-list.template-legacy"
    assert answer["findings"][0]["detail"].startswith("record 2: expected ")


def test_exit_1_where_a_hash_does_not_match(log: Path, capsys: Out) -> None:
    log.write_bytes(encoded(AGGREGATE, replace(GOOD, template_hash=b"h" * 20)))
    status, answer = run(capsys, log)
    assert status == NO
    assert [one["reason"] for one in answer["findings"]] == [Reason.LIST_TEMPLATE_HASH]


def test_exit_2_where_there_is_no_list(log: Path, capsys: Out) -> None:
    log.write_bytes(b"no list")
    status, answer = run(capsys, log)
    assert (status, answer["verdict"]) == (MISUSED, "malformed")
    assert [one["reason"] for one in answer["findings"]] == ["malformed"]
    assert answer["findings"][0]["detail"].startswith(f"{log}: record 0: expected ")
    assert main(["check-log", str(log)]) == MISUSED
    assert capsys.readouterr().err.startswith(f"verifier: {log}: record 0: expected ")
    with pytest.raises(SystemExit) as misused:
        main(["check-log", str(log), "--log-hash", "md5"])
    assert misused.value.code == MISUSED


@pytest.mark.parametrize(("name", "why"), [("nothing", "No such file"), ("", "Is a directory")])
def test_exit_2_where_there_is_no_file(tmp_path: Path, capsys: Out, name: str, why: str) -> None:
    status, answer = run(capsys, tmp_path / name)
    assert (status, answer["verdict"]) == (MISUSED, "malformed")
    assert answer["findings"][0]["detail"].startswith(f"{tmp_path / name}: {why}")


def test_exit_3_where_the_file_cannot_be_read(capsys: Out) -> None:
    """A file of the kernel's that is there, and of which every read fails."""
    assert main(["check-log", "/proc/self/mem"]) == UNKNOWN
    assert capsys.readouterr().out == ""


def test_the_files_name_says_the_algorithm(log: Path, capsys: Out) -> None:
    named = log.with_name("binary_runtime_measurements_sha384")
    named.write_bytes(encoded(with_hash(GOOD, "sha384")))
    assert run(capsys, named)[0] == YES
    assert run(capsys, named, "--log-hash", "sha1")[0] == MISUSED
    assert log_hash_of("binary_runtime_measurements_sm3") == "sm3"
    for name in ("binary_runtime_measurements", "ima-log-sha256", "x_md5", "sha256", "x_sha256\n"):
        assert log_hash_of(name) is None


def test_the_answer_for_people(log: Path, capsys: Out) -> None:
    assert main(["check-log", str(log)]) == YES
    first, *_, before, last = capsys.readouterr().out.splitlines()
    assert first == "3 entries, 0 violations"
    assert before.startswith("finding  ima-list.digest-weak  record 2: ")
    assert last.startswith("  next      look at the file's attribute")


def test_quiet_says_only_what_refuses(log: Path, capsys: Out) -> None:
    assert main(["check-log", str(log), "--quiet"]) == YES
    assert capsys.readouterr().out == ""
    log.write_bytes(encoded(LEGACY, replace(GOOD, template_hash=b"h" * 20)))
    assert main(["check-log", str(log), "--quiet"]) == NO
    finding, hint = capsys.readouterr().out.splitlines()
    assert finding.startswith("finding  ima-list.template-hash-does-not-match  record 1: ")
    assert hint.startswith("  next ")


@pytest.mark.parametrize(
    "reason",
    [
        Reason.LIST_TEMPLATE_HASH,
        Reason.LIST_TEMPLATE,
        Reason.LIST_LEGACY,
        Reason.LIST_ALGORITHM,
        Reason.LIST_PADDED,
        Reason.LIST_DIGEST,
        Reason.LIST_BUFFER,
        Reason.LIST_VIOLATION,
        Reason.BOOT_AGGREGATE_AGAIN,
    ],
)
def test_every_finding_has_a_next_step_of_its_own(reason: Reason) -> None:
    assert NEXT[reason]


def test_a_file_that_is_too_long_is_not_read(
    log: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tools, "MOST_LIST_BYTES", log.stat().st_size)
    assert run(capsys, log)[0] == YES
    monkeypatch.setattr(file_tools, "MOST_LIST_BYTES", log.stat().st_size - 1)
    status, answer = run(capsys, log)
    assert status == MISUSED
    assert "expected at most" in answer["findings"][0]["detail"]


# Lists that others have published

HASH_OF_SIZE = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


@needs_vectors
def test_the_table_is_read() -> None:
    assert len(tabled("ima")) == 18


@pytest.mark.parametrize("name", names("ima"))
def test_a_published_list(name: str, capsys: Out) -> None:
    expected = tabled("ima")[name]
    arguments: list[str | Path] = [VECTORS / name]
    if expected["binary"]:
        arguments += ["--log-hash", HASH_OF_SIZE[expected["template_hash_len"][0]]]
    else:
        arguments += ["--ascii"]
    status, answer = run(capsys, *arguments)
    assert status == (NO if expected["n_bad"] else YES)
    assert answer["entries"] == expected["entries"]
    assert answer["violations"] == expected["violations"]
    assert sorted(answer["templates"]) == expected["templates"]
    bad = [
        int(one["detail"].removeprefix("record ").partition(":")[0])
        for one in answer["findings"]
        if one["reason"] == Reason.LIST_TEMPLATE_HASH
    ]
    assert bad == expected["bad_template_hash_at"]
    for register, values in expected["final"].items():
        for bank, value in values.items():
            assert answer["pcrs"][bank][register] == value


@needs_vectors
@pytest.mark.parametrize("name", ["ima-log-sm3_256", "ima-log-unknown"])
def test_an_unknown_digest_algorithm_is_named(name: str, capsys: Out) -> None:
    _, answer = run(capsys, VECTORS / "keylime" / "ima" / name, "--ascii")
    assert Reason.LIST_ALGORITHM in {one["reason"] for one in answer["findings"]}


@needs_vectors
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
def test_registers_that_a_tpm_held(algorithm: str, capsys: Out) -> None:
    """Of a virtual TPM, in a table that its authors made from it; in all four banks."""
    lines = (VECTORS / "ibmtss" / "imakvtpcr10.txt").read_text().split("PCR 10:")[1:]
    held = {"".join(line.split()) for line in lines}
    path = VECTORS / "ibmtss" / f"{algorithm}.log"
    _, answer = run(capsys, path, "--log-hash", algorithm)
    assert {registers["10"] for registers in answer["pcrs"].values()} == held


@needs_vectors
def test_what_is_no_list_of_measurements(capsys: Out) -> None:
    path = VECTORS / "rust-keylime" / "invalid_ima_log.txt"
    assert run(capsys, path, "--ascii")[0] == MISUSED
    assert run(capsys, path)[0] == MISUSED


@needs_vectors
def test_single_lines_of_several_templates() -> None:
    path = VECTORS / "keylime" / "ima" / "test_ima_ast.entries.json"
    for line in json.loads(path.read_text()).values():
        checked = check_log(line.encode(), is_ascii=True)
        assert checked.entries == 1
        assert checked.is_consistent


def place_of(path: Path) -> str:
    return "/".join(path.parts[-2:])


def kernel_lists() -> list[Path]:
    folder = VECTORS / "kernels"
    return sorted(
        [*folder.rglob("*binary_runtime_measurements*"), *folder.rglob("*-boot/*.bin"),
         *folder.rglob("real.bin"), *VECTORS.glob("made-here/*.bin")]
    )  # fmt: skip


@needs_vectors
def test_the_kernels_lists_are_found() -> None:
    assert len(kernel_lists()) >= 13


@pytest.mark.parametrize("path", or_absent(kernel_lists()), ids=place_of)
def test_a_kernels_list(path: Path, capsys: Out) -> None:
    status, answer = run(capsys, path)
    assert status == YES
    assert answer["entries"] == sum(answer["templates"].values())


TEXTS = sorted(
    [*VECTORS.glob("kernels/*/*ascii_*"), *VECTORS.glob("kernels/*/*.asc"),
     *VECTORS.glob("made-here/*.ascii")]
)  # fmt: skip


@pytest.mark.parametrize("path", or_absent(TEXTS), ids=place_of)
def test_a_kernels_list_in_text_says_the_same(path: Path, capsys: Out) -> None:
    """As far as both go: to read a list is measured too, so the one read later is longer."""
    assert run(capsys, path, "--ascii")[0] == YES
    is_named = path.suffix in (".asc", ".ascii")
    name = path.stem + ".bin" if is_named else path.name.replace("ascii", "binary")
    binary = list(read_records(path.with_name(name).read_bytes()))
    text = list(read_ascii_records(path.read_bytes(), template_hash_bytes=20))
    both = min(len(binary), len(text))
    assert both > len(binary) - 4
    assert text[:both] == binary[:both]
