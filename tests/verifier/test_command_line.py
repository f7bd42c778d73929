"""Reading kernel command lines: what the kernel may read otherwise says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.command_line import MOST_BYTES, always_say, never_say_other

NAME = "sysctl.kernel.yama.ptrace_scope"
SAID = f"{NAME}=2"


def says(*lines: str) -> bool:
    return always_say(lines, NAME, ("2", "3").__contains__)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(SAID, id="alone"),
        pytest.param(f"root=/dev/vda ro {SAID} quiet", id="among others"),
        pytest.param(f'ima_policy="tcb|critical_data" {SAID}', id="after quotes"),
        pytest.param(f"{SAID} {NAME}=3", id="twice, each of them good"),
        pytest.param(f'{NAME}="2"', id="a value in quotes"),
        pytest.param(f"{SAID}\tquiet\n", id="other white space"),
        pytest.param(f"{SAID} -- --{NAME}=0", id="the first program's own words"),
    ],
)
def test_it_is_said(line: str) -> None:
    assert says(line)
    assert says(line, SAID)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="an empty line"),
        pytest.param("quiet", id="nothing of it"),
        pytest.param(f"{NAME}=0", id="another value"),
        pytest.param(f"{NAME}=1", id="too low a value"),
        pytest.param(f"{NAME}=20", id="a value that begins like one"),
        pytest.param(f"{NAME}=02", id="a number written otherwise"),
        pytest.param(f"{NAME}", id="no value"),
        pytest.param(f"{NAME}=", id="an empty value"),
        pytest.param(f"{SAID} {NAME}=0", id="and the other thing later"),
        pytest.param(f"{NAME}=0 {SAID}", id="and the other thing before"),
        pytest.param(f"{SAID} sysctl/kernel/yama/ptrace_scope=0", id="under another spelling"),
        pytest.param(f"{SAID} sysctl.kernel/yama.ptrace_scope=0", id="under a mixed spelling"),
        pytest.param("sysctl.kernel.yama.ptrace-scope=2", id="a spelling that sysctl has not"),
        pytest.param(f"quiet -- {SAID}", id="for the first program"),
        pytest.param(f'x="{SAID}"', id="within another's value"),
        pytest.param(f'x="a {SAID} b"', id="within another's quotes"),
        pytest.param(f'"{SAID}"', id="a word in quotes"),
        pytest.param(f'{SAID} x="', id="quotes that are not closed"),
        pytest.param(f"x{SAID}", id="the end of another name"),
        pytest.param(f"{SAID} bootconfig", id="more in the initramfs"),
        pytest.param(f"{SAID} x=ä", id="beyond ASCII"),
        pytest.param(f"x=\xa0{SAID}", id="a space to the kernel alone"),
        pytest.param(f"{SAID} {'x' * MOST_BYTES}", id="longer than the kernel takes"),
        pytest.param(f"{SAID}\0", id="a zero"),
    ],
)
def test_it_is_not_said(line: str) -> None:
    assert not says(line)
    assert not says(SAID, line)
    assert not says(line, SAID)


def test_no_line_says_nothing() -> None:
    assert not says()


def test_what_may_be_left_out() -> None:
    def fits(*lines: str) -> bool:
        return never_say_other(lines, "lsm", lambda value: "lockdown" in value.split(","))

    assert fits()
    assert fits("quiet")
    assert fits("quiet", "lsm=lockdown,yama")
    assert not fits("lsm=yama", "quiet")
    assert not fits("lsm=lockdown,yama lsm=yama")
    assert not fits("lsm=lockdowns")
    assert not fits('lsm=yama"')


@given(st.text(alphabet=' "=-/._2ab' + NAME[:3], max_size=40))
def test_whatever_comes_before_or_after_a_line_grants_nothing_that_it_does_not_say(
    more: str,
) -> None:
    assert not says(more)
