"""How a Python program is started, and where it looks for modules then.

Its interpreter is told to heed nothing but its own installation and the script's directory, and
is named by a path that only root can change. So what it can import is known before it runs
(Python's documentation, "The initialization of the sys.path module search path").
"""

import os
import re
from dataclasses import dataclass

from attestor.proc import NoLook
from evidence.shapes import Shape

FLAGS = ("-E", "-s", "-S", "-B")
"""Python's documentation, "Command line and environment": no variables PYTHON*; no directory of
the user's; no module `site`, hence no .pth files, no sitecustomize and no usercustomize; nothing
compiled is written. Not -I: it would leave out the script's directory."""

_NAME = re.compile(r"python3\.[0-9]{1,3}")
_LIBRARIES = ("lib", "lib64")
"""sys.platlibdir, as distributions have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonProgram(Shape):
    """What the attestor starts: two absolute paths, free of symbolic links."""

    interpreter: str
    script: str

    def arguments(self, more: tuple[str, ...]) -> tuple[str, ...]:
        """Return argv."""
        return (self.interpreter, *FLAGS, self.script, *more)


def resolve(interpreter: str, script: str) -> PythonProgram:
    """Return the program of these two paths; raise NoLook where its modules are not known."""
    for path in (interpreter, script):
        if not path.startswith("/"):
            raise NoLook(f"expected an absolute path, got {path!a}")
    found = PythonProgram(
        interpreter=os.path.realpath(interpreter, strict=True),
        script=os.path.realpath(script, strict=True),
    )
    if not (found.interpreter + found.script).isprintable():
        raise NoLook("the paths are no text")
    if not os.path.isfile(found.script):  # noqa: PTH113 of a directory it would run __main__.py
        raise NoLook(f"expected a file, got {found.script!a}")
    _version(found)
    for landmark in _landmarks(found):
        if os.path.lexists(landmark):
            raise NoLook(f"{landmark!a} sends the interpreter elsewhere for its modules")
    return found


def roots(program: PythonProgram) -> tuple[str, ...]:
    """Return what the program's sys.path holds at its start, as far as it exists."""
    version = _version(program)
    above = os.path.dirname(program.interpreter)  # noqa: PTH120 paths are text on the wire
    while True:
        libraries = [f"{above.rstrip('/')}/{one}" for one in _LIBRARIES]
        trees = [f"{one}/{version}" for one in libraries]
        if any(os.path.lexists(f"{one}/os.py{end}") for one in trees for end in ("", "c")):
            break
        if above == "/":
            raise NoLook(f"no modules of {version} above {program.interpreter!a}")
        above = os.path.dirname(above)  # noqa: PTH120
    archives = [f"{one}/{version.replace('.', '')}.zip" for one in libraries]
    there = [one for one in (*trees, *archives) if os.path.lexists(one)]
    for one in there:
        if os.path.realpath(one) != one:
            raise NoLook(f"{one!a} is reached by a symbolic link")
    return (os.path.dirname(program.script), *there)  # noqa: PTH120


def _version(program: PythonProgram) -> str:
    name = os.path.basename(program.interpreter)  # noqa: PTH119
    if _NAME.fullmatch(name) is None:
        raise NoLook(f"expected an interpreter of the name {_NAME.pattern}, got {name!a}")
    return name


def _landmarks(program: PythonProgram) -> tuple[str, ...]:
    """Return the files by which an interpreter is sent elsewhere (CPython, Modules/getpath.py).

    A virtual environment, a search path of its own, a build directory.
    """
    directory = os.path.dirname(program.interpreter)  # noqa: PTH120
    return (
        f"{directory}/pyvenv.cfg",
        f"{os.path.dirname(directory)}/pyvenv.cfg",  # noqa: PTH120
        f"{program.interpreter}._pth",
        f"{directory}/pybuilddir.txt",
        f"{directory}/Modules/Setup.local",
    )
