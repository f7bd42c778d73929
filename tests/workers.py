"""Which tests `make test` gives to one worker, when two of them run at a time.

A machine is booted once for all tests that are played in it. What needs no machine is one group
too: this host's attestors have the same accounts, whoever starts them.
"""

import re

from xdist.scheduler import LoadScopeScheduling

SHARED = re.compile(
    r"tests/attacks/test_(binding|canary|container|hand_over|interpreter|live|live_node|levels|sealed)\.py"
)
OTHERS = {"levels": "closed ", "sealed": "sealed "}
"""Files whose machine is another one."""
OWN = re.compile(r"tests/(end_to_end|ima_policies|kernels|swtpm/test_(firmware|machine))\b")
KERNEL = re.compile(r"[\[-](\d+\.\d[^-\]]*)(?=[-\]])")
"""A parameter of a test that is played on kernels, not always the first."""
DEMO = "tests/end_to_end/test_demo.py"
"""It leaves one file, whatever kernel it is played on."""
HOST = "host"


class ByMachine(LoadScopeScheduling):
    """Hands out groups, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return the name of the group that a test belongs to."""
    file = nodeid.partition("::")[0]
    found = KERNEL.search(nodeid)
    kernel = found[1] if found else ""
    if (shared := SHARED.fullmatch(file)) and kernel:
        return f"{OTHERS.get(shared[1], '')}machine {kernel}"
    if file == DEMO:
        return file
    return f"{file} {kernel}" if OWN.match(file) else HOST
