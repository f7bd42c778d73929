"""What a Python program could import: where its interpreter looks, and the listing of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestor import modules
from attestor.digests import Digests
from attestor.interpreter import FLAGS, PythonProgram, resolve, roots
from attestor.modules import ModuleTrees
from attestor.proc import NoLook
from evidence.modules import Module, ModuleTree, digest_of
from tests.simulated_keys import sha256

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what only root can change is listed")

SYSTEM = "/usr/bin/python3"
FEW_MODULES = 100
"""As many as a tree here may have."""


@dataclass
class Installation:
    """A directory that looks like a machine's root."""

    root: Path

    def write(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    @property
    def program(self) -> PythonProgram:
        return resolve(str(self.root / "usr/bin/python3.11"), str(self.root / "opt/agent.py"))

    def listed(self, trees: ModuleTrees) -> dict[str, Module]:
        listing = trees.of(self.program)
        assert listing.digest == digest_of(listing.encoded)
        found = ModuleTree.decode(listing.encoded).modules
        paths = [os.fsdecode(one.path) for one in found]
        assert paths == sorted(paths)
        return dict(zip(paths, found, strict=True))


@pytest.fixture
def machine(open_directory: Path) -> Installation:
    one = Installation(open_directory.resolve())
    one.write("usr/bin/python3.11", "an interpreter")
    one.write("usr/lib/python3.11/os.py", "os")
    one.write("usr/lib/python3.11/__pycache__/os.cpython-311.pyc", "compiled os")
    one.write("opt/agent.py", "import plan")
    one.write("opt/plan/__init__.py", "plan")
    return one


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> ModuleTrees:
    monkeypatch.setattr(modules, "MOST_MODULES", FEW_MODULES)
    return ModuleTrees(Digests(most_bytes=1 << 20), lasts_seconds=0)


def test_the_interpreter_of_this_machine_looks_where_it_is_said_to(open_directory: Path) -> None:
    script = open_directory.resolve() / "agent.py"
    script.write_text("import sys; print('\\n'.join(sys.path))")
    program = resolve(SYSTEM, str(script))
    evil = {"PYTHONPATH": "/tmp", "PYTHONHOME": "/tmp", "PYTHONPLATLIBDIR": "evil"}
    told = subprocess.run(
        program.arguments(()), capture_output=True, text=True, check=True, env=evil, cwd="/tmp"
    )
    said = [path for path in told.stdout.splitlines() if os.path.lexists(path)]
    own, *others = roots(program)
    assert said[0] == own == str(script.parent)
    assert said[1:]
    for path in said[1:]:
        assert any(path == one or path.startswith(f"{one}/") for one in others), path
    assert program.arguments(())[1:-1] == FLAGS


def test_everything_is_listed(machine: Installation, trees: ModuleTrees) -> None:
    found = machine.listed(trees)
    files = {"opt/agent.py": b"import plan", "usr/lib/python3.11/os.py": b"os"}
    for path, content in files.items():
        assert found[f"{machine.root}/{path}"].digest == sha256(content)
    for path in ("/", str(machine.root), f"{machine.root}/opt/plan", f"{machine.root}/usr"):
        assert found[path].digest == b""
        assert found[path].mode & 0o170000 == 0o040000
    assert {one.owner for one in found.values()} == {0}
    assert f"{machine.root}/usr/bin/python3.11" in found
    assert f"{machine.root}/usr/lib/python3.11/__pycache__/os.cpython-311.pyc" in found


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one: one.write("opt/plan/more.py"), id="a new file"),
        pytest.param(lambda one: one.write("opt/agent.py", "import evil"), id="other bytes"),
        pytest.param(lambda one: (one.root / "opt/agent.py").chmod(0o666), id="writable"),
        pytest.param(lambda one: (one.root / "opt/plan").chmod(0o777), id="a directory"),
        pytest.param(lambda one: (one.root / "opt").chmod(0o777), id="a directory above"),
        pytest.param(lambda one: os.chown(one.root / "opt/plan", 1, 1), id="another owner"),
        pytest.param(lambda one: one.write("usr/lib/python311.zip"), id="an archive"),
        pytest.param(lambda one: (one.root / "opt/plan/__init__.py").unlink(), id="one less"),
        pytest.param(
            lambda one: (one.root / "opt/plan").rename(one.root / "opt/other"), id="a name"
        ),
    ],
)
def test_a_change_is_seen(
    machine: Installation, trees: ModuleTrees, change: Callable[[Installation], object]
) -> None:
    before = trees.of(machine.program)
    assert trees.of(machine.program) is before
    change(machine)
    assert trees.of(machine.program).digest != before.digest


def test_what_was_found_counts_for_a_while(machine: Installation) -> None:
    trees = ModuleTrees(Digests(most_bytes=1 << 20))
    before = trees.of(machine.program)
    machine.write("opt/evil.py")
    assert trees.of(machine.program) is before


def test_a_link_is_what_it_leads_to(machine: Installation, trees: ModuleTrees) -> None:
    machine.write("etc/site.py", "site")
    (machine.root / "opt/site.py").symlink_to("../etc/site.py")
    found = machine.listed(trees)
    assert found[f"{machine.root}/opt/site.py"].digest == sha256(b"site")
    assert f"{machine.root}/etc" in found


def test_nobody_reads_what_others_may_write(machine: Installation, trees: ModuleTrees) -> None:
    (machine.root / "opt/agent.py").chmod(0o666)
    machine.write("opt/his/deep/evil.py")
    os.chown(machine.root / "opt/his", 1001, 1001)
    found = machine.listed(trees)
    assert found[f"{machine.root}/opt/agent.py"].digest == b""
    assert f"{machine.root}/opt/his" in found
    assert f"{machine.root}/opt/his/deep" not in found


def make_many(machine: Installation) -> None:
    for number in range(FEW_MODULES):
        machine.write(f"opt/many/{number}.py")


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda one: (one.root / "opt/to").symlink_to("../usr"), id="a directory"),
        pytest.param(lambda one: (one.root / "opt/to").symlink_to("gone"), id="nowhere"),
        pytest.param(lambda one: (one.root / "opt/to").symlink_to("to"), id="round"),
        pytest.param(lambda one: os.mkfifo(one.root / "opt/pipe"), id="a pipe"),
        pytest.param(lambda one: one.write("/".join(["opt", *"d" * 25, "f"])), id="deep"),
        pytest.param(lambda one: one.write("opt/large.py", "#" * (2 << 20)), id="large"),
        pytest.param(make_many, id="many"),
        pytest.param(lambda one: one.write("usr/bin/pyvenv.cfg"), id="an environment"),
        pytest.param(lambda one: one.write("usr/pyvenv.cfg"), id="an environment's own"),
        pytest.param(lambda one: one.write("usr/bin/python3.11._pth"), id="a path file"),
        pytest.param(lambda one: one.write("usr/bin/pybuilddir.txt"), id="a build directory"),
        pytest.param(lambda one: one.write("usr/bin/Modules/Setup.local"), id="a source tree"),
        pytest.param(
            lambda one: (one.root / "usr/lib/python3.11").rename(one.root / "usr/lib/other"),
            id="no library",
        ),
        pytest.param(lambda one: (one.root / "opt/agent.py").unlink(), id="no script"),
    ],
)
def test_what_is_odd_is_not_listed(
    machine: Installation, trees: ModuleTrees, odd: Callable[[Installation], object]
) -> None:
    trees.of(machine.program)
    odd(machine)
    with pytest.raises((NoLook, OSError)):
        trees.of(machine.program)


@pytest.mark.parametrize(
    ("interpreter", "script"),
    [
        ("/usr/bin/env", "/etc/hostname"),
        ("usr/bin/python3", "/etc/hostname"),
        (SYSTEM, "etc/hostname"),
        (SYSTEM, "/etc"),
        (SYSTEM, "/nowhere"),
    ],
)
def test_what_is_no_program(interpreter: str, script: str) -> None:
    with pytest.raises((NoLook, OSError)):
        resolve(interpreter, script)


@pytest.mark.parametrize("name", [b"\xff.py", b"a\n.py"])
def test_a_script_whose_name_is_no_text(machine: Installation, name: bytes) -> None:
    (machine.root / "opt" / os.fsdecode(name)).write_text("")
    (machine.root / "opt/link.py").symlink_to(os.fsdecode(name))
    with pytest.raises(NoLook, match="no text"):
        resolve(machine.program.interpreter, str(machine.root / "opt/link.py"))


def test_a_link_in_the_place_of_the_library(machine: Installation, trees: ModuleTrees) -> None:
    (machine.root / "usr/lib/python3.11").rename(machine.root / "elsewhere")
    (machine.root / "usr/lib/python3.11").symlink_to(machine.root / "elsewhere")
    with pytest.raises(NoLook, match="symbolic link"):
        trees.of(machine.program)


def test_hashing_goes_on_where_it_stopped(machine: Installation) -> None:
    digests = Digests(most_bytes=1 << 20)
    trees = ModuleTrees(digests)
    for number in range(3):
        machine.write(f"opt/m{number}.py", str(number))
    digests.until = time.monotonic() - 1
    with pytest.raises(NoLook, match="no time"):
        trees.of(machine.program)
    digests.until = time.monotonic() + 60
    assert trees.of(machine.program)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts")
def test_something_mounted_among_them(machine: Installation, trees: ModuleTrees) -> None:
    place = machine.root / "opt/a place"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(NoLook, match="mounted among"):
            trees.of(machine.program)
    finally:
        subprocess.run(["umount", place], check=True)
