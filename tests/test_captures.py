"""Captures that are kept: what our own lab's kernels and TPMs have said, judged as files.

`tests/vectors/README.md` names the command that made each.
"""

import shlex
from pathlib import Path

import pytest

from evidence import Malformed, tpm
from evidence.event_log import EventLog
from evidence.ima import read_measurement
from swtpm.capture import LIST
from tests.captures import Capture, check_capture
from verifier.reasons import Reason

VECTORS = Path(__file__).resolve().parent / "vectors"
NAMES = sorted(path.parent.name for path in VECTORS.glob("*/capture.json"))


@pytest.fixture(params=NAMES)
def capture(request: pytest.FixtureRequest) -> Capture:
    return Capture(folder=VECTORS / str(request.param))


def capture_of(name: str) -> Capture:
    return Capture(folder=VECTORS / name)


def test_there_are_kernels_and_templates() -> None:
    captures = [capture_of(name) for name in NAMES]
    kernels = {one.told["kernel"][0].rpartition(".")[0] for one in captures}
    assert len({kernel.partition(".")[0:3] for kernel in kernels}) > 1
    templates = {name for one in captures for name in one.lists[LIST].templates}
    assert {"ima-sig", "ima-ng", "ima-sigv2", "ima-buf", "d-ngv2|n-ng|iuid"} <= templates


def test_a_capture_is_sound(capture: Capture) -> None:
    check_capture(capture)


def test_the_readme_names_the_command(capture: Capture) -> None:
    command = capture.told["made_by"]
    assert str(capture.folder.relative_to(VECTORS.parent.parent)) in shlex.split(command)
    assert command in (VECTORS / "README.md").read_text()


def test_the_list_before_the_quote_is_too_short_for_it(capture: Capture) -> None:
    assert capture.check_quote(f"before_quote.{LIST}").refused == {Reason.LIST_REPLAY}


def test_the_list_of_each_bank_says_as_much() -> None:
    """6.12 has one of each bank that it can compute."""
    capture = capture_of("6.12-ima-sigv2")
    for bank in ("sha1", "sha256", "sha384", "sha512"):
        assert capture.check_quote(f"{LIST}_{bank}").ima == capture.check_quote().ima


def test_6_1_pads_the_banks_that_it_cannot_compute() -> None:
    assert check_capture(capture_of("6.1-ima-sig")) == ("sha384", "sha512")
    assert check_capture(capture_of("6.12-ima-sigv2")) == ()


def test_odd_names_and_a_violation() -> None:
    """What was done is in the command; the kernel writes `_` where a name has a space."""
    capture = capture_of("6.12-ima-sigv2")
    assert capture.lists[LIST].violations == 1
    assert {record.register for record in capture.records} == {10, 12, 13}
    paths = {read_measurement(one).path for one in capture.records if not one.is_violation}
    assert {b"/home/alice/a_file", b"/usr/local/bin/two\nlines"} <= paths


def test_what_newer_kernels_measure_before_the_kernel_policy() -> None:
    """The programs and modules of the initramfs; older ones measure nothing in memory."""
    assert capture_of("6.1-ima-sig").early() == []
    early = [one.path for one in capture_of("7.3-ima-ng").early()]
    assert early[:2] == [b"/init", b"/busybox"]
    assert all(path.startswith(b"/modules/") for path in early[2:])


@pytest.mark.parametrize("name", ["quote.msg", "quote.sig", "eventlog.bin", LIST])
def test_a_changed_capture_is_refused(capture: Capture, name: str, tmp_path: Path) -> None:
    """One bit: in the middle, and in the event log, of which data are mere words, in a digest."""
    for path in capture.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray(capture.read(name))
    place = len(data) // 2
    if name == "eventlog.bin":
        place = data.index(dict(EventLog.decode(bytes(data)).events[-1].digests)[tpm.ALG_SHA256])
    data[place] ^= 1
    (tmp_path / name).write_bytes(data)
    assert is_accepted(capture)
    assert not is_accepted(Capture(folder=tmp_path))


def is_accepted(capture: Capture) -> bool:
    try:
        return capture.check_quote().is_accepted
    except Malformed:
        return False
