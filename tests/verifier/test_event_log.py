"""Boot event logs judged by themselves, and `verifier check-eventlog`."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed
from evidence.event_log import (
    ACTION,
    ALGORITHMS,
    EFI_ACTION,
    EFI_HCRTM_EVENT,
    EFI_VARIABLE_AUTHORITY,
    EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TAG,
    MOST_LOG_BYTES,
    NO_ACTION,
    POST_CODE,
    S_CRTM_VERSION,
    SEPARATOR,
    Event,
    EventLog,
    SpecId,
    Variable,
)
from tests.evidence.shapes import flips
from tests.shared_vectors import VECTORS, expected, names, needs_vectors
from verifier.__main__ import main
from verifier.commands import MISUSED, NO, YES
from verifier.event_log import GLOBAL_VARIABLE, HASHES, JudgedLog, judge_event_log
from verifier.reasons import Reason

Out = pytest.CaptureFixture[str]

SHA1, SHA256, SHA384, UNHEARD_OF = 0x4, 0xB, 0xC, 0x1234
BANKS = (SHA1, SHA256)
SIZES = {**{algorithm: size for algorithm, (_, size) in ALGORITHMS.items()}, UNHEARD_OF: 7}


def make_event(
    register: int,
    type_: int,
    data: bytes,
    *,
    of: bytes | None = None,
    banks: tuple[int, ...] = BANKS,
) -> Event:
    """Return an event whose digests are of its data, or of something else."""
    measured = data if of is None else of
    digests = tuple((one, hashlib.new(HASHES[one], measured).digest()) for one in banks)
    return Event(register=register, type=type_, digests=digests, data=data)


def no_action(data: bytes, register: int = 0) -> Event:
    digests = tuple((one, bytes(SIZES[one])) for one in BANKS)
    return Event(register=register, type=NO_ACTION, digests=digests, data=data)


def secure_boot(value: bytes, **other: Any) -> Event:  # noqa: ANN401
    variable = Variable(vendor=GLOBAL_VARIABLE, name="SecureBoot", value=value)
    return make_event(7, EFI_VARIABLE_DRIVER_CONFIG, variable.encode(), **other)


def separators(value: bytes = bytes(4)) -> list[Event]:
    return [make_event(register, SEPARATOR, value) for register in range(8)]


EXIT = [
    make_event(5, EFI_ACTION, b"Exit Boot Services Invocation"),
    make_event(5, EFI_ACTION, b"Exit Boot Services Returned with Success"),
]
VERSION = make_event(0, S_CRTM_VERSION, b"1\0")


def log_of(*events: Event, banks: tuple[int, ...] = BANKS, register: int = 0) -> EventLog:
    spec = SpecId(
        register=register,
        digest=bytes(20),
        platform_class=0,
        minor=0,
        major=2,
        errata=0,
        pointer_size=2,
        algorithms=tuple((one, SIZES[one]) for one in banks),
        vendor=b"",
    )
    return EventLog(spec=spec, events=events)


GOOD = log_of(VERSION, secure_boot(b"\1"), *separators(), *EXIT)


def reasons(judged: JudgedLog) -> set[Reason]:
    return {finding.reason for finding in (*judged.refusals, *judged.notes)}


def judge(*events: Event) -> JudgedLog:
    """Judge a log that is good but for these events, which come first."""
    return judge_event_log(replace(GOOD, events=(*events, *GOOD.events)))


def extended(start: bytes, *measured: bytes) -> bytes:
    value = start
    for one in measured:
        value = hashlib.sha256(value + hashlib.sha256(one).digest()).digest()
    return value


def test_a_good_log_has_no_findings() -> None:
    judged = judge_event_log(GOOD)
    assert reasons(judged) == set()
    assert judged.secure_boot is True
    assert set(judged.registers) == {"sha1", "sha256"}
    assert list(judged.registers["sha256"]) == list(range(8))
    assert judged.registers["sha256"][0] == extended(bytes(32), b"1\0", bytes(4))
    assert judged.events == len(GOOD.events)


def test_a_sha1_log() -> None:
    events = tuple(
        make_event(one.register, one.type, one.data, banks=(SHA1,)) for one in GOOD.events
    )
    judged = judge_event_log(EventLog(spec=None, events=events))
    assert reasons(judged) == set()
    assert judged.registers == {"sha1": judge_event_log(GOOD).registers["sha1"]}


# What no firmware writes


REFUSED = {
    "no event": (log_of(), Reason.EVENT_LOG_EMPTY),
    "no measurement": (log_of(no_action(b"StartupLocality\0\3")), Reason.EVENT_LOG_EMPTY),
    "no register but of a dynamic launch": (
        log_of(make_event(17, POST_CODE, b"tboot")),
        Reason.EVENT_LOG_EMPTY,
    ),
    "no bank": (log_of(VERSION, banks=(UNHEARD_OF,)), Reason.EVENT_LOG_NO_BANK),
    "each bank lacks an event": (
        log_of(
            make_event(0, POST_CODE, b"a", banks=(SHA1,)),
            make_event(0, POST_CODE, b"b", banks=(SHA256,)),
        ),
        Reason.EVENT_LOG_NO_BANK,
    ),
}


@pytest.mark.parametrize(("log", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_log_that_shows_nothing(log: EventLog, reason: Reason) -> None:
    assert reason in {finding.reason for finding in judge_event_log(log).refusals}


VARIABLE = Variable(vendor=bytes(16), name="db", value=b"certificate").encode()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(secure_boot(b"\1", of=b"other"), id="variable"),
        pytest.param(make_event(4, EFI_ACTION, b"Calling", of=b"other"), id="action of UEFI"),
        pytest.param(make_event(4, ACTION, b"Calling", of=b"other"), id="action"),
        pytest.param(make_event(8, SEPARATOR, bytes(4), of=b"\xff" * 4), id="separator's value"),
        pytest.param(make_event(8, SEPARATOR, b"words", of=b"other"), id="separator's words"),
        pytest.param(make_event(7, EFI_VARIABLE_AUTHORITY, VARIABLE, of=b"o"), id="authority"),
    ],
)
def test_data_that_were_not_measured_refuse_the_log(event: Event) -> None:
    judged = judge(event)
    assert {finding.reason for finding in judged.refusals} == {Reason.EVENT_LOG_DIGEST}
    assert judged.secure_boot is None


def test_one_bank_whose_digest_is_another_refuses_the_log() -> None:
    """Or the data hold in the bank that nobody quotes."""
    event = secure_boot(b"\1")
    first, _ = event.digests
    assert judge(replace(event, digests=(first, (SHA256, bytes(32))))).refusals


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(make_event(9, EVENT_TAG, b"tag", of=b"initrd"), id="tag of Linux"),
        pytest.param(make_event(0, S_CRTM_VERSION, b"2", of=b"other"), id="version"),
        pytest.param(
            make_event(7, EFI_VARIABLE_AUTHORITY, VARIABLE + bytes(6), of=b"o"), id="old shim"
        ),
        pytest.param(make_event(8, SEPARATOR, b"words", of=b"\xff" * 4), id="separator with words"),
    ],
)
def test_data_that_real_firmware_does_not_measure_are_a_note(event: Event) -> None:
    judged = judge(event)
    assert not judged.refusals
    assert {finding.reason for finding in judged.notes} == {Reason.EVENT_LOG_DATA}


@pytest.mark.parametrize("type_", [POST_CODE, 0xD, 0x8000_0002, 0x8000_0003, 0x8000_0008])
def test_data_that_no_digest_should_cover_are_not_compared(type_: int) -> None:
    assert reasons(judge(make_event(4, type_, b"a path", of=b"a file"))) == set()


def test_an_action_of_firmware_that_is_no_uefi_is_a_note() -> None:
    judged = judge_event_log(log_of(make_event(1, ACTION, b"Node id", of=b"4"), *separators()))
    assert reasons(judged) == {Reason.EVENT_LOG_DATA}


# Where register 0 starts

HCRTM = make_event(0, EFI_HCRTM_EVENT, b"HCRTM", of=b"code")


@pytest.mark.parametrize(
    ("events", "locality"),
    [
        ([], 0),
        ([no_action(b"StartupLocality\0\0")], 0),
        ([no_action(b"StartupLocality\0\3")], 3),
        ([no_action(b"StartupLocality\0\4")], 4),
        ([HCRTM], 4),
        ([no_action(b"StartupLocality\0\4"), HCRTM], 4),
    ],
)
def test_the_startup_locality(events: list[Event], locality: int) -> None:
    judged = judge(*events)
    assert reasons(judged) == set()
    measured = [b"code"] if HCRTM in events else []
    value = extended(bytes(31) + bytes([locality]), *measured, b"1\0", bytes(4))
    assert judged.registers["sha256"][0] == value


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([no_action(b"StartupLocality\0\1")], id="1"),
        pytest.param([no_action(b"StartupLocality\0")], id="none"),
        pytest.param([no_action(b"StartupLocality\0\3\0")], id="too long"),
        pytest.param([no_action(b"StartupLocality\0\3", register=1)], id="register 1"),
        pytest.param([VERSION, no_action(b"StartupLocality\0\3")], id="late"),
        pytest.param([no_action(b"StartupLocality\0\3")] * 2, id="twice"),
        pytest.param([no_action(b"StartupLocality\0\3"), HCRTM], id="not that of the H-CRTM"),
        pytest.param([VERSION, HCRTM], id="H-CRTM late"),
        pytest.param([HCRTM, HCRTM], id="H-CRTM twice"),
        pytest.param([replace(HCRTM, register=1)], id="H-CRTM in register 1"),
    ],
)
def test_a_wrong_startup_locality_refuses_the_log(events: list[Event]) -> None:
    judged = judge(*events)
    assert {finding.reason for finding in judged.refusals} == {Reason.EVENT_LOG_LOCALITY}


# Banks


def test_a_bank_that_an_event_lacks_is_not_replayed() -> None:
    """Windows measures SHA-256 alone, whatever banks the firmware has declared."""
    judged = judge(make_event(11, POST_CODE, b"Windows", banks=(SHA256,)))
    assert not judged.refusals
    assert set(judged.registers) == {"sha256"}
    (finding,) = judged.notes
    assert finding.reason == Reason.EVENT_LOG_BANK_INCOMPLETE
    assert (finding.what, finding.found) == ("sha1", "none in event 0")


def test_an_event_that_extends_nothing_may_lack_a_bank() -> None:
    event = replace(no_action(b"manifest"), digests=((SHA1, bytes(20)),))
    assert reasons(judge(event)) == set()


def test_an_unknown_bank_is_not_replayed() -> None:
    log = log_of(*GOOD.events, banks=(*BANKS, UNHEARD_OF))
    judged = judge_event_log(log)
    assert set(judged.registers) == {"sha1", "sha256"}
    assert reasons(judged) == {Reason.EVENT_LOG_BANK_UNKNOWN}


# Secure Boot


@pytest.mark.parametrize(
    ("values", "state"),
    [([b"\1"], True), ([b"\0"], False), ([b""], False), ([], None), ([b"\1", b"\1"], True)],
)
def test_secure_boot(values: list[bytes], state: bool | None) -> None:  # noqa: FBT001
    judged = judge_event_log(log_of(*map(secure_boot, values), *separators(), *EXIT))
    assert reasons(judged) == set()
    assert judged.secure_boot is state


@pytest.mark.parametrize("values", [[b"\2"], [b"\1\0"], [b"\1", b"\0"], [b"\0", b"\1"]])
def test_an_unclear_secure_boot_is_unknown(values: list[bytes]) -> None:
    judged = judge_event_log(log_of(*map(secure_boot, values), *separators(), *EXIT))
    assert reasons(judged) == {Reason.EVENT_LOG_SECURE_BOOT}
    assert judged.secure_boot is None


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(replace(secure_boot(b"\1"), register=8), id="register 8"),
        pytest.param(replace(secure_boot(b"\1"), register=1), id="register 1"),
        pytest.param(replace(secure_boot(b"\1"), type=POST_CODE), id="another type"),
        pytest.param(
            make_event(
                7,
                EFI_VARIABLE_DRIVER_CONFIG,
                Variable(vendor=bytes(16), name="SecureBoot", value=b"\1").encode(),
            ),
            id="another vendor's variable",
        ),
        pytest.param(make_event(7, EFI_VARIABLE_DRIVER_CONFIG, b"SecureBoot"), id="no variable"),
    ],
)
def test_what_does_not_say_that_secure_boot_is_on(event: Event) -> None:
    assert judge_event_log(log_of(event, *separators(), *EXIT)).secure_boot is None


def test_secure_boot_is_not_learned_after_the_separator() -> None:
    """Whoever runs later can extend register 7 with what he likes."""
    log = log_of(secure_boot(b"\0"), *separators(), secure_boot(b"\1"), *EXIT)
    assert judge_event_log(log).secure_boot is False
    assert judge_event_log(log_of(*separators(), secure_boot(b"\1"))).secure_boot is None


def test_a_confidential_machine_tells_in_measurement_register_1() -> None:
    event = replace(secure_boot(b"\1"), register=1)
    log = log_of(event, make_event(1, SEPARATOR, bytes(4)), *EXIT, register=1)
    judged = judge_event_log(log)
    assert reasons(judged) == set()
    assert judged.secure_boot is True


# What firmware does once, in its order


def test_separators() -> None:
    first, *others = separators()
    good = [VERSION, *EXIT]
    assert reasons(judge_event_log(log_of(*good, *others))) == {Reason.EVENT_LOG_SEPARATOR_MISSING}
    again = log_of(*good, first, first, *others)
    assert reasons(judge_event_log(again)) == {Reason.EVENT_LOG_SEPARATOR_AGAIN}
    failed = log_of(*good, *separators(b"\1\0\0\0"))
    assert reasons(judge_event_log(failed)) == {Reason.EVENT_LOG_SEPARATOR_VALUE}
    late = judge_event_log(log_of(*good, first, *others, VERSION, VERSION))
    assert reasons(late) == {Reason.EVENT_LOG_LATE}
    assert late.notes[0].found == "2 after it, from event 11 on"


def test_boot_services_that_nothing_left() -> None:
    judged = judge_event_log(log_of(VERSION, *separators(), EXIT[0]))
    assert reasons(judged) == {Reason.EVENT_LOG_EXIT}


def test_a_register_of_a_dynamic_launch_is_not_replayed() -> None:
    judged = judge(make_event(17, POST_CODE, b"tboot"))
    assert reasons(judged) == {Reason.EVENT_LOG_DYNAMIC}
    assert 17 not in judged.registers["sha256"]


# Bits


def test_every_flipped_bit_of_a_log_is_judged() -> None:
    """A log with any other bit is malformed, refused, leads elsewhere or has other words only."""
    genuine = judge_event_log(GOOD)
    for flipped in flips(GOOD.encode()):
        try:
            judged = judge_event_log(EventLog.decode(flipped))
        except Malformed:
            continue
        if judged.refusals or judged.registers != genuine.registers:
            continue
        assert judged.secure_boot in (genuine.secure_boot, None)


some_events = st.lists(
    st.builds(
        make_event,
        st.integers(min_value=0, max_value=23),
        st.one_of(st.integers(min_value=0, max_value=0x10), st.just(EFI_HCRTM_EVENT)),
        st.sampled_from([b"", bytes(4), b"StartupLocality\0\3", b"StartupLocality\0"]),
        of=st.one_of(st.none(), st.binary(max_size=4)),
        banks=st.sampled_from([(SHA1,), (SHA256,), BANKS]),
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(some_events, st.sampled_from([0, 1]))
def test_any_log_is_judged(events: list[Event], register: int) -> None:
    judged = judge_event_log(log_of(*events, register=register))
    assert judged.refusals or (judged.registers and all(judged.registers.values()))


# The command


def write(path: Path, log: EventLog) -> str:
    path.write_bytes(log.encode())
    return str(path)


def test_check_eventlog(tmp_path: Path, capsys: Out) -> None:
    path = write(tmp_path / "log", GOOD)
    assert main(["check-eventlog", path, "--json"]) == YES
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"events", "pcrs", "secure_boot", "findings", "facts"}
    assert answer["events"] == len(GOOD.events)
    assert answer["secure_boot"] is True
    assert answer["findings"] == []
    assert main(["check-eventlog", path]) == YES
    out = capsys.readouterr().out
    assert answer["pcrs"]["sha256"]["7"] in out
    assert "secure boot  on" in out
    assert main(["check-eventlog", path, "--quiet"]) == YES
    assert capsys.readouterr().out == ""


def test_check_eventlog_refuses(tmp_path: Path, capsys: Out) -> None:
    path = write(tmp_path / "log", log_of(secure_boot(b"\1", of=b"other"), VERSION))
    assert main(["check-eventlog", path, "--json"]) == NO
    answer = json.loads(capsys.readouterr().out)
    assert answer["findings"][0] == {
        "reason": Reason.EVENT_LOG_DIGEST,
        "detail": "event 0, type 0x80000001, register 7: expected the digest of its data",
    }
    assert main(["check-eventlog", path, "--quiet"]) == NO
    assert f"refused  {Reason.EVENT_LOG_DIGEST}" in capsys.readouterr().out


def test_check_eventlog_of_no_log(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "log"
    for junk in (b"", b"junk", bytes(MOST_LOG_BYTES + 1)):
        path.write_bytes(junk)
        assert main(["check-eventlog", str(path), "--json"]) == MISUSED
        captured = capsys.readouterr()
        answer = json.loads(captured.out)
        assert answer["verdict"] == "malformed"
        assert answer["findings"][0]["detail"].startswith(f"{path}: expected ")
        assert captured.err.startswith(f"verifier: {path}: expected ")
    assert main(["check-eventlog", str(tmp_path / "nowhere")]) == MISUSED
    assert capsys.readouterr().out == ""


# Logs that firmware has written (shared/vectors, where that is present)


NOTHING_MEASURED = "go-attestation/short_no_action_eventlog"
SECURE_BOOT = {"01": True, "00": False, "": False, None: None}


@pytest.fixture
def check(capsys: Out) -> Callable[[str], tuple[int, Any]]:
    def run(name: str) -> tuple[int, Any]:
        status = main(["check-eventlog", str(VECTORS / name), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", names("eventlogs"))
def test_a_real_log(name: str, check: Callable[[str], tuple[int, Any]]) -> None:
    row = expected("eventlogs")[name]
    status, answer = check(name)
    if "verdict" in row:
        assert (status, answer["verdict"]) == (MISUSED, "malformed")
        return
    assert status == (NO if name == NOTHING_MEASURED else YES)
    assert answer["events"] == row["events"]
    assert answer["pcrs"] == {bank: it for bank, it in row["pcrs"].items() if isinstance(it, dict)}
    assert answer["secure_boot"] is SECURE_BOOT[row["secureboot"]]
    told = {finding["reason"]: finding for finding in answer["findings"]}
    lacking = [bank for bank, it in row["pcrs"].items() if not isinstance(it, dict)]
    found = [one["detail"] for one in answer["findings"] if "bank-incomplete" in one["reason"]]
    assert [one.partition(":")[0] for one in found] == lacking
    again = told.get(Reason.EVENT_LOG_SEPARATOR_AGAIN, {"detail": ""})["detail"]
    assert again.removeprefix("register ") == ", ".join(map(str, row["dup_separators"]))


@needs_vectors
def test_registers_that_others_have_computed(check: Callable[[str], tuple[int, Any]]) -> None:
    folder = "go-tpm-tools/eventlogs"
    table = json.loads((VECTORS / folder / "expected_pcrs.json").read_text())
    banks = 0
    for name, row in table.items():
        _, answer = check(f"{folder}/{name}")
        for bank, registers in row["pcrs"].items():
            banks += 1
            for register, value in registers.items():
                assert answer["pcrs"][bank][register] == value, (name, bank, register)
    assert banks == 24


@needs_vectors
@pytest.mark.parametrize(
    ("name", "bank", "table", "matches"),
    [
        ("TpmLog.bin", "sha256", "TpmLogExpectedPcrs.txt", True),
        ("TpmLogSHA1.bin", "sha1", "TpmLogSHA1ExpectedPcrs.txt", True),
        ("TPMLog_Altered.bin", "sha256", "TpmLogExpectedPcrs.txt", False),
    ],
)
def test_registers_that_a_machine_had(
    name: str,
    bank: str,
    table: str,
    matches: bool,  # noqa: FBT001
    check: Callable[[str], tuple[int, Any]],
) -> None:
    """The altered log is well-formed and in itself possible: only the registers tell."""
    folder = VECTORS / "hirs" / "eventlogs"
    registers = (folder / table).read_text().split()
    _, answer = check(f"hirs/eventlogs/{name}")
    same = {number: registers[int(number)] == it for number, it in answer["pcrs"][bank].items()}
    assert all(same.values()) is matches
    untouched = {str(number) for number in range(24)} - set(same)
    assert all(set(registers[int(number)]) in ({"0"}, {"f"}) for number in untouched)


@needs_vectors
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("go-attestation/ebs_event_missing_eventlog", Reason.EVENT_LOG_EXIT),
        (NOTHING_MEASURED, Reason.EVENT_LOG_EMPTY),
        ("ibmtss/amd635.log", Reason.EVENT_LOG_SEPARATOR_AGAIN),
        ("trustee/ccel/CCEL_data_grub", Reason.EVENT_LOG_SEPARATOR_AGAIN),
    ],
)
def test_what_a_policy_wants_to_know_of_real_logs(
    name: str, reason: Reason, check: Callable[[str], tuple[int, Any]]
) -> None:
    _, answer = check(name)
    assert reason in {finding["reason"] for finding in answer["findings"]}


@needs_vectors
@pytest.mark.parametrize("name", ["go-tpm-tools/eventlogs/rhel8-uefi.bin", "ibmtss/sm3.log"])
def test_real_data_that_a_digest_covers_cannot_be_changed(name: str) -> None:
    log = EventLog.decode((VECTORS / name).read_bytes())
    changed = 0
    for index, event in enumerate(log.events):
        covered = (EFI_VARIABLE_DRIVER_CONFIG, EFI_ACTION, SEPARATOR, ACTION)
        if event.type not in covered or not event.data:
            continue
        bent = replace(event, data=event.data[:-1] + bytes([event.data[-1] ^ 1]))
        events = (*log.events[:index], bent, *log.events[index + 1 :])
        judged = judge_event_log(replace(log, events=events))
        assert {finding.reason for finding in judged.refusals} == {Reason.EVENT_LOG_DIGEST}
        changed += 1
    assert changed > 8
