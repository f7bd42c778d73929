"""What a look sees of memory that was tampered with, on the kernel that runs the tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from attestor.digests import Digests
from attestor.look import Codes, Glance, Pins, glance, look, pin
from attestor.memory import regions_of
from attestor.proc import NoLook, ids_of, status
from attestor.sharers import Sharers
from evidence.process import Look
from tests.attestor.puppets import LocalPuppet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes")

NOBODY = 65534


class Seen:
    """A puppet that is looked at."""

    def __init__(self, puppet: LocalPuppet) -> None:
        self.puppet = puppet
        self.pins: Pins = pin(os.pidfd_open(puppet.pid))
        self._codes = Codes(Digests(most_bytes=64 << 20))

    def look(self) -> Look:
        return look(self.pins, self._codes, Sharers())[0]

    def glance(self) -> Glance:
        return glance(self.pins)

    @property
    def anonymous(self) -> list[int]:
        return [one.anonymous for one in self.look().mappings]


Start = Callable[..., Seen]


@pytest.fixture
def start(puppet_path: Path) -> Iterator[Start]:
    with ExitStack() as ends:

        def start(uid: int = NOBODY) -> Seen:
            puppet = ends.enter_context(LocalPuppet(puppet_path, uid=uid))
            seen = Seen(puppet)
            ends.callback(seen.pins.close)
            return seen

        yield start


@pytest.mark.attack(number=50, attacker="a process of the same user", asset="the identity")
@pytest.mark.attack(number=52, attacker="a process of the same user", asset="the identity")
@pytest.mark.parametrize("how", ["poke-other", "write-text"])
def test_text_changed_by_another_process(start: Start, how: str) -> None:
    """The mappings are the same, and the next glance is not."""
    victim, attacker = start(), start()
    before, clean = victim.glance(), victim.anonymous
    answer = attacker.puppet.say(f"{how} {victim.puppet.pid}")
    if answer != "done":
        assert how == "write-text"
        pytest.skip(f"this kernel does not let that happen: {answer}")
    after = victim.glance()
    assert clean == [0]
    assert victim.anonymous == [4096]
    assert after.regions == before.regions
    assert (before.own_pages, len(after.own_pages)) == (b"", 32)


@pytest.mark.attack(number=51, attacker="the process itself", asset="the identity")
def test_text_changed_and_put_back(start: Start) -> None:
    seen = start()
    seen.puppet.do("restore")
    mappings = seen.look().mappings
    assert [one.anonymous for one in mappings] == [0] * len(mappings)
    assert len(mappings) > 1


@pytest.mark.attack(number=50, attacker="a process of the same user", asset="the identity")
def test_a_tracer_of_a_thread(start: Start) -> None:
    """/proc/PID/status speaks of the first thread alone."""
    victim, attacker = start(), start()
    thread = victim.puppet.say("another")
    before = victim.glance()
    attacker.puppet.do(f"trace {thread}")
    says = Path(f"/proc/{victim.puppet.pid}/status").read_text()
    assert "TracerPid:\t0\n" in says
    assert victim.look().tracer == attacker.puppet.pid
    assert (before.tracer, victim.glance().tracer) == (0, attacker.puppet.pid)


@pytest.mark.attack(number=70, attacker="a relative of another user", asset="the identity")
@pytest.mark.parametrize("how", ["sibling", "thread"])
def test_memory_shared_with_other_ids(start: Start, how: str) -> None:
    seen = start(uid=0)
    seen.puppet.do(f"{how} {NOBODY}")
    found = seen.look()
    assert (found.uids, found.capabilities, found.strangers) == ((NOBODY,) * 4, 0, (0,))


def test_a_relative_of_the_same_user_is_no_stranger(start: Start) -> None:
    """Every child is one between vfork and exec."""
    seen = start()
    seen.puppet.do("flap /usr/bin/true")
    assert start().look().strangers == ()
    seen.puppet.say("another")
    for _ in range(100):
        try:
            assert seen.look().strangers == ()
        except NoLook:
            continue
        break


def test_a_mapped_file_that_is_written_to(start: Start, open_directory: Path) -> None:
    """The mappings are the same, and the text is still the file's; the file is another."""
    library = open_directory / "library"
    library.write_bytes(Path("/usr/bin/true").read_bytes())
    seen = start()
    seen.puppet.do(f"load {library}")
    before, first = seen.glance(), seen.look()
    with library.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    after, second = seen.glance(), seen.look()
    assert after.regions == before.regions
    assert after != before
    assert first.mappings == second.mappings
    assert first.files[1].digest != second.files[1].digest


def test_a_program_that_is_loaded_is_mapped_as_its_headers_say(start: Start) -> None:
    seen = start()
    seen.puppet.do("load /usr/bin/true")
    found = seen.look()
    (segment,) = found.files[1].segments
    mapping = found.mappings[1]
    assert found.files[1].is_movable
    assert not found.files[0].is_movable
    assert mapping.offset == segment.offset - segment.offset % 4096
    assert mapping.length == segment.length + -segment.length % 4096


@pytest.mark.parametrize(
    "maps",
    [
        pytest.param(b"00400000-00401000 r-xp 0 fe:00 12 /a b\n\nx\n", id="an empty line"),
        pytest.param(b"00400000-00401000 r-xq 00000000 fe:00 12 /bin/a\n", id="a new letter"),
        pytest.param(b"00400000-00401000 r-xp 00000000 fe:00\n", id="no inode"),
        pytest.param(b"00400000 r-xp 00000000 fe:00 12 /bin/a\n", id="no end"),
        pytest.param(b"00400000-00401000 r-xp 00000000 fe:00 12 /bin/a", id="cut short"),
    ],
)
def test_maps_that_are_not_understood(maps: bytes) -> None:
    with pytest.raises(NoLook, match="not known here"):
        regions_of(maps)


def test_what_was_found_of_relatives_counts_for_a_while(start: Start) -> None:
    """Of this process, with these ids; every other one is looked after anew."""
    seen, sharers = start(uid=0), Sharers()
    ids = ids_of(status(seen.pins.directory))
    pid, ticks = seen.puppet.pid, seen.look().start_ticks
    assert sharers.of(pid, ticks, ids) == ()
    seen.puppet.do(f"sibling {NOBODY}")
    assert sharers.of(pid, ticks, ids) == ()
    own = ids_of(status(seen.pins.directory))
    assert sharers.of(pid, ticks, own) == (0,)
    assert sharers.of(pid, ticks + 1, own) == (0,)
