"""A Python program on a simulated node: what the attestor lists of it, and who knows it."""

from dataclasses import replace
from typing import Any

from evidence.modules import Module, ModuleTree, digest_of
from evidence.process import LAUNCHED
from tests.simulated_keys import sha256
from tests.simulated_node import SYSTEM_FILES, SimulatedNode
from tests.simulated_process import EXT4, SimulatedProcess
from verifier.policy import ReferenceSet

PYTHON = "usr/bin/python3.11"
SCRIPT = b"/opt/agent/bin/agent.py"
LIBRARY = b"/usr/lib/python3.11"
DIRECTORY, FILE = 0o040755, 0o100644
FUSE = 0x65735546

SETS = {
    "agent-1.2": {"bin/agent.py": b"import plan", "bin/plan.py": b"plan"},
    "python": {
        "usr/lib/python3.11/os.py": b"os",
        "usr/lib/python3.11/__pycache__/os.cpython-311.pyc": b"compiled os",
        "usr/lib/python3.11/code.py": b"code",
    },
}
OTHERS = {"usr/lib/other.py": b"other"}
"""Known, and no set of the workload's."""

WORKLOAD = """\
executable = { set = "debian-12", file = "usr/bin/python3.11" }
interpreter = { script = "bin/agent.py", modules = "agent-1.2" }
mapped = ["debian-12", "python"]
"""


def module(path: bytes, content: bytes, **changes: Any) -> Module:  # noqa: ANN401
    fields: dict[str, Any] = {
        "path": path, "digest": sha256(content), "owner": 0, "mode": FILE, "filesystem": EXT4,
    }  # fmt: skip
    return Module(**(fields | changes))


def directory(path: bytes, **changes: Any) -> Module:  # noqa: ANN401
    fields: dict[str, Any] = {
        "path": path, "digest": b"", "owner": 0, "mode": DIRECTORY, "filesystem": EXT4,
    }  # fmt: skip
    return Module(**(fields | changes))


def golden() -> dict[bytes, Module]:
    """What the attestor lists of the program that the workload is."""
    files = {b"/" + path.encode(): data for path, data in SETS["python"].items()}
    own = {b"/opt/agent/" + path.encode(): data for path, data in SETS["agent-1.2"].items()}
    directories = (b"/", b"/opt", b"/opt/agent", b"/opt/agent/bin", b"/usr", LIBRARY)
    return {
        **{path: module(path, data) for path, data in (files | own).items()},
        **{path: directory(path) for path in directories},
    }


def tree_of(modules: dict[bytes, Module]) -> bytes:
    return ModuleTree(modules=tuple(modules[path] for path in sorted(modules))).encode()


def launch(node: SimulatedNode, tree: bytes | None = None, **core: Any) -> SimulatedProcess:  # noqa: ANN401
    """Start the agent as the attestor does."""
    tree = tree_of(golden()) if tree is None else tree
    fields = {
        "binding": LAUNCHED,
        "peer_proof": "child",
        "script": SCRIPT.decode(),
        "modules": digest_of(tree),
    }
    process = node.new_process(program=SYSTEM_FILES[PYTHON], core=fields | core)
    return replace(process, new=replace(process.new, modules=tree))


def workload_toml(node: SimulatedNode) -> str:
    """Return the workload that `launch` starts."""
    kept = [
        line
        for line in node.workload_toml().splitlines()
        if not line.startswith(("executable", "mapped"))
    ]
    return "\n".join((kept[0], WORKLOAD, *kept[1:]))


def sets_of(node: SimulatedNode) -> tuple[ReferenceSet, ...]:
    made = (
        ReferenceSet(name=name, files={path: (sha256(data),) for path, data in files.items()})
        for name, files in (SETS | {"others": OTHERS}).items()
    )
    return (*node.policy().sets, *made)
