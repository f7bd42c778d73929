"""What an interpreter could run: its script and every module that it could import, all known.

A module's name is what a program imports it by, so a known file counts under its own name only:
the end of its path is what its set calls it. Who may add a file to a directory may add a module.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise

from evidence import Malformed
from evidence.modules import Module, ModuleTree, digest_of
from evidence.process import LAUNCHED, CoreRecord
from verifier.bounds import demand_payload
from verifier.places import is_in_place, judge_place
from verifier.policy import Interpreted, Policy, Workload
from verifier.reasons import Finding, Reason, Rejected, capped, label, sha256_text

_Files = Mapping[str, Sequence[bytes]]
_TYPE, _DIRECTORY = 0o170000, 0o040000
"""S_IFMT, S_IFDIR (Linux include/uapi/linux/stat.h)."""


def find_unproven(core: CoreRecord, workload: Workload, *, what: str) -> Iterator[Finding]:
    """Yield why it is not known which script runs. A command line is its process's to write."""
    wanted = workload.interpreter
    if wanted and not (core.binding == LAUNCHED and core.script and core.modules):
        expected = f"{wanted.script}, launched by the attestor with its interpreter"
        found = core.binding if not core.script else label(core.script)
        yield Finding(
            reason=Reason.PROCESS_SCRIPT_UNPROVEN, what=what, expected=expected, found=label(found)
        )
    if not wanted and (core.script or core.modules):
        expected, found = "a program by itself", label(core.script)
        yield Finding(reason=Reason.PROCESS_INTERPRETER, what=what, expected=expected, found=found)


def verify_modules(tree: bytes, *, core: CoreRecord, workload: Workload, policy: Policy) -> None:
    """Raise Rejected unless script and modules are known, Malformed unless they are the record's.

    Judged of a new process. Later its look shows the same digest, and the operators' door ends
    what rests on a set that has lost a file.
    """
    if digest_of(tree) != core.modules:
        raise Malformed("the modules are not those of the core record")
    if not workload.interpreter:
        return
    demand_payload(tree)
    modules = ModuleTree.decode(tree).modules
    if not all(one.path < other.path for one, other in pairwise(modules)):
        raise Malformed("expected modules in the order of their paths, each once")
    sets = policy.named_sets_on(core.node, workload.modules)
    own = policy.named_sets_on(core.node, (workload.interpreter.modules,))
    files = [one.files for one in sets]
    findings = capped(
        chain(
            _judge_script(modules, core, workload.interpreter, [one.files for one in own]),
            *(_judge(module, workload, files) for module in modules),
        )
    )
    if findings:
        raise Rejected(findings)


def _judge_script(
    modules: Sequence[Module], core: CoreRecord, wanted: Interpreted, files: Sequence[_Files]
) -> Iterator[Finding]:
    path = core.script.encode()
    found = next((one.digest for one in modules if one.path == path), b"")
    digests = [digest for one in files for digest in one.get(wanted.script, ())]
    if found not in digests or not path.endswith(b"/" + wanted.script.encode()):
        texts = ", ".join(map(sha256_text, digests[:4])) or "none on this node"
        yield Finding(
            reason=Reason.PROCESS_SCRIPT,
            what=label(path),
            expected=f"{wanted.script}, {texts} ({wanted.modules})",
            found=sha256_text(found),
        )


def _judge(one: Module, workload: Workload, files: Sequence[_Files]) -> Iterator[Finding]:
    place = {"owner": one.owner, "mode": one.mode, "filesystem": one.filesystem}
    if not is_in_place(**place):
        yield from judge_place(one.path, **place)
    if one.mode & _TYPE != _DIRECTORY and not _is_known(one, files):
        expected = f"a file of that name in {', '.join(workload.modules)}"
        found = sha256_text(one.digest)
        yield Finding(
            reason=Reason.PROCESS_MODULE, what=label(one.path), expected=expected, found=found
        )


def _is_known(module: Module, files: Sequence[_Files]) -> bool:
    """Say whether a set has these bytes under what the path ends in."""
    name = module.path.decode("utf-8", "replace").lstrip("/")
    while name:
        if any(module.digest in one.get(name, ()) for one in files):
            return True
        name = name.partition("/")[2]
    return False
