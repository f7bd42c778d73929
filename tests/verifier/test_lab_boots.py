"""The lab's captured boots through firmware: log, registers and list belong together."""

import hashlib
import json
from pathlib import Path

import pytest

from evidence.event_log import EventLog
from verifier.event_log import judge_event_log
from verifier.reasons import Reason

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
BOOTS = sorted(path.name for path in VECTORS.glob("uki-*"))
SHA256 = 0x000B


def test_there_are_some() -> None:
    assert BOOTS == ["uki-6.1", "uki-6.12", "uki-7.3"]


@pytest.fixture(params=BOOTS)
def boot(request: pytest.FixtureRequest) -> Path:
    return VECTORS / str(request.param)


@pytest.fixture
def registers(boot: Path) -> dict[int, str]:
    held = json.loads((boot / "pcrs.json").read_text())["sha256"]
    return {int(one): value for one, value in held.items()}


@pytest.fixture
def log(boot: Path) -> EventLog:
    return EventLog.decode((boot / "eventlog.bin").read_bytes())


def test_the_log_leads_to_the_registers(log: EventLog, registers: dict[int, str]) -> None:
    judged = judge_event_log(log)
    assert judged.refusals == ()
    assert judged.secure_boot is True
    # The kernel's stub hashes what it was given, and says so in words of its own.
    assert {one.reason for one in judged.notes} == {Reason.EVENT_LOG_DATA}
    replayed = judged.registers["sha256"]
    for register in (*range(10), 11, 14):
        assert replayed.get(register, bytes(32)).hex() == registers[register]


def test_the_command_line_is_in_two_registers(boot: Path, log: EventLog) -> None:
    told = (boot / "cmdline.txt").read_text().removesuffix("\n")
    digests = {(one.register, dict(one.digests).get(SHA256)) for one in log.events}
    assert (11, hashlib.sha256(told.encode()).digest()) in digests
    assert (9, hashlib.sha256((told + "\0").encode("utf-16-le")).digest()) in digests


def test_the_list_begins_with_these_registers(boot: Path, registers: dict[int, str]) -> None:
    values = b"".join(bytes.fromhex(registers[one]) for one in range(10))
    first = (boot / "ascii_runtime_measurements").read_text().splitlines()[0]
    assert f"sha256:{hashlib.sha256(values).hexdigest()} boot_aggregate" in first
