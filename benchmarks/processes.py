"""Bodies with many processes, each of which is judged by itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.evidence import World
from benchmarks.junk import broken
from benchmarks.refusing import Group
from evidence import Body
from evidence.messages import KnownProcess, NewProcess
from tests.simulated_node import POSTURE
from tests.simulated_process import SimulatedProcess, text_of
from tests.simulated_tpm import ZERO
from verifier import Accepted

MOST_PROCESSES = 500

Change = Callable[[NewProcess], NewProcess]


@dataclass(frozen=True, slots=True)
class Junk:
    """Bytes in the place of a body."""

    data: bytes

    def encode(self) -> bytes:
        """Return the bytes."""
        return self.data


def judged(size: int) -> Group:
    """Return bodies with so many new processes."""
    world = World()
    processes = [world.node.new_process() for _ in range(size)]
    good = world.node.body(processes)
    honest = world.with_body(good)
    room = len(good.encode())
    bad = {
        name: _with(world, good, change)
        for name, change in _changes(world, world.node.new_process()).items()
    } | {
        f"no body: {name}": world.with_body(Junk(junk)) for name, junk in broken(room - 100).items()
    }
    bad |= {
        "known processes that nobody knows": world.with_body(
            replace(good, new=(), known=_known(processes[0], room))
        ),
        "the same process again and again": world.with_body(
            replace(good, new=(processes[0].new,) * size)
        ),
        "records as short as can be": world.with_body(
            replace(good, new=_shortest(processes[0], room))
        ),
        "processes whose mappings are all patched": world.with_body(
            replace(good, new=_patched(world, room))
        ),
        "wanted by no workload": world.with_body(
            world.node.body(
                [world.node.new_process(core={"user": "x", "identity": ""}) for _ in range(size)]
            )
        ),
    }
    world.demand_no_longer(bad, honest)
    return Group(
        name=f"evidence with {size} processes",
        accept=partial(_is_any_accepted, world, honest),
        refuse={name: partial(_is_any_accepted, world, message) for name, message in bad.items()},
    )


def _with(world: World, body: Body, change: Change) -> bytes:
    return world.with_body(replace(body, new=tuple(change(one) for one in body.new)))


def _changes(world: World, process: SimulatedProcess) -> dict[str, Change]:
    """Return what may be wrong with every process."""
    return {
        "records that are none": _changed(core=b"no core record" * 20),
        "keys that are none": _changed(public=bytes(100)),
        "signatures that are none": _changed(signature=bytes(72)),
        "signatures of another certification": _changed(signature=process.new.signature),
        "certifications of another key": _changed(
            certification=process.new.certification, signature=process.new.signature
        ),
        "creation data that are none": _changed(creation_data=bytes(100)),
        "executables that are another": _looking(executable="digest"),
        "traced processes": _looking(tracer=1),
        "anonymous memory": _looking(anonymous_executable=1),
        "processes of another boot": _looking(boot="0" * len(world.node.boot_id)),
        "files that nobody knows": _unknown_files,
    }


def _changed(**changes: Any) -> Change:  # noqa: ANN401 - fields of any type
    return lambda new: replace(new, **changes)


def _looking(**changes: Any) -> Change:  # noqa: ANN401
    def change(new: NewProcess) -> NewProcess:
        fields = dict(changes)
        if fields.pop("executable", None):
            fields["executable"] = replace(new.look.executable, digest=ZERO)
        return replace(new, look=replace(new.look, **fields))

    return change


def _unknown_files(new: NewProcess) -> NewProcess:
    files = tuple(replace(file, digest=ZERO) for file in new.look.files)
    return replace(new, look=replace(new.look, files=files))


EMPTY = Body(
    boot="",
    kernel="",
    instances=(),
    hand_overs=(),
    canaries=(),
    posture=POSTURE,
    presences=(),
    new=(),
    known=(),
)


def _known(process: SimulatedProcess, room: int) -> tuple[KnownProcess, ...]:
    one = len(replace(EMPTY, known=(process.known(),)).encode())
    return tuple(
        replace(process.known(), key_name=b"%034d" % number) for number in range(room // one)
    )


def _shortest(process: SimulatedProcess, room: int) -> tuple[NewProcess, ...]:
    empty = replace(
        process.look,
        boot="", files=(), mappings=(), uids=(), gids=(), namespaces=(), cgroup="", pid=0,
        pidfs_inode=0, start_ticks=0,
        executable=replace(
            process.look.executable, path=b"", digest=b"", device=0, inode=0, filesystem=0, mode=0
        ),
    )  # fmt: skip
    new = NewProcess(
        core=b"",
        look=empty,
        public=b"",
        creation_data=b"",
        certification=b"",
        signature=b"",
        modules=b"",
    )
    return (new,) * ((room - 200) // len(_encoded(new)))


def _patched(world: World, room: int) -> tuple[NewProcess, ...]:
    """Return processes with as many mappings as have room, each of which is a finding or two."""
    mapping = text_of(0, anonymous=1, is_writable=True, start=0, offset=0, length=0)
    least = len(_encoded(world.node.new_process(look={"mappings": ()}).new))
    one = (
        len(_encoded(world.node.new_process(look={"mappings": (mapping,) * 100}).new)) - least
    ) / 100
    count = int((room - 300 - least) / one)
    return (world.node.new_process(look={"mappings": (mapping,) * count}).new,)


def _encoded(new: NewProcess) -> bytes:
    return replace(EMPTY, new=(new,)).encode()[len(EMPTY.encode()) :] + b"\0"


def _is_any_accepted(world: World, message: bytes) -> bool:
    verdict = world.judge(message)
    return any(isinstance(one, Accepted) for one in verdict.processes)
