"""What kernel command lines say of one parameter, read so that nothing can be mistaken.

The texts are ones that a boot policy accepts and a quoted register has the digest of
(`verifier.boot_log`), so they are the operator's. What the kernel might read otherwise than we do
says nothing here, and nothing is granted for it.
"""

import re
from collections.abc import Callable, Collection

MOST_BYTES = 2000
"""x86 and arm64 cut a command line at COMMAND_LINE_SIZE, 2048 bytes with the zero at its end; a
boot loader may put words of its own before it."""

MORE = "bootconfig"
"""The initramfs holds more parameters (Linux admin-guide/bootconfig.rst), which we do not see."""

Accepts = Callable[[str], bool]

_SPACES = " \t\n\v\f\r"
"""isspace() of the kernel (lib/ctype.c), of ASCII."""


def always_say(lines: Collection[str], name: str, accepts: Accepts) -> bool:
    """Say whether each of these lines, at least one, sets the parameter to an accepted value.

    A line that sets it several times, or under another spelling of its name, has to say so each
    time: which one counts differs between parameters.
    """
    return (
        bool(lines)
        and never_say_other(lines, name, accepts)
        and all(_namesakes(_words(line) or (), name) for line in lines)
    )


def never_say_other(lines: Collection[str], name: str, accepts: Accepts) -> bool:
    """Say whether each of these lines leaves the parameter out, or says an accepted value."""
    return all(
        (words := _words(line)) is not None
        and all(word == name and accepts(value) for word, value in _namesakes(words, name))
        for line in lines
    )


Words = tuple[tuple[str, str], ...]


def _namesakes(words: Words, name: str) -> Words:
    return tuple((word, value) for word, value in words if _plain(word) == _plain(name))


def _plain(name: str) -> str:
    """Return one spelling of all that the kernel may take for the name.

    parameq() (kernel/params.c) takes - for _; sysctl parameters have / or dots, of which a path is
    made, so several are as good as one (fs/proc/proc_sysctl.c, process_sysctl_arg).
    """
    return re.sub("[./]+", ".", name.replace("-", "_"))


def _words(line: str) -> Words | None:
    """Return names and values up to `--`, as next_arg() of the kernel (lib/cmdline.c) has them.

    None for a line that another reader could take apart otherwise, or that is not all.
    """
    if not line.isascii() or len(line) > MOST_BYTES or "\0" in line or line.count('"') % 2:
        return None
    words = []
    for word in _split(line):
        if word == "--":
            break
        name, _, value = word.partition("=")
        if '"' in name:
            return None
        if value.startswith('"'):
            value = value[1:].removesuffix('"')
        words.append((name, value))
    return None if any(_plain(name) == MORE for name, _ in words) else tuple(words)


def _split(line: str) -> list[str]:
    """Return the words: spaces within double quotes do not end one."""
    return re.findall(rf'(?:[^"{_SPACES}]|"[^"]*")+', line)
