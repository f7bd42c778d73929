"""What a process was launched with, against what its workload names: all of it, and nothing else.

The attestor has launched it, so it knows. What a process says of its own arguments and
environment it may have written there itself.
"""

import shlex
from collections.abc import Iterator

from evidence.process import LAUNCHED, CoreRecord, arguments_digest, environment_digest
from verifier.policy import Launch
from verifier.reasons import Finding, Reason, label, sha256_text


def find_launched_otherwise(launch: Launch, core: CoreRecord, *, what: str) -> Iterator[Finding]:
    """Find what a process was launched with that its workload does not say, or the other way."""
    if core.binding != LAUNCHED:
        return  # said once: its starter is not the attestor
    yield from _arguments(launch, core, what)
    yield from _environment(launch, core, what)
    yield from _configuration(launch, core)


def _arguments(launch: Launch, core: CoreRecord, what: str) -> Iterator[Finding]:
    if arguments_digest(launch.arguments) != core.arguments:
        expected, found = label(shlex.join(launch.arguments)), sha256_text(core.arguments)
        yield Finding(reason=Reason.PROCESS_ARGUMENTS, what=what, expected=expected, found=found)


def _environment(launch: Launch, core: CoreRecord, what: str) -> Iterator[Finding]:
    if environment_digest(launch.environment) != core.environment:
        given = [f"{name}={value}" for name, value in sorted(launch.environment.items())]
        expected, found = label(shlex.join(given)) or "none", sha256_text(core.environment)
        yield Finding(reason=Reason.PROCESS_ENVIRONMENT, what=what, expected=expected, found=found)


def _configuration(launch: Launch, core: CoreRecord) -> Iterator[Finding]:
    reason = Reason.PROCESS_CONFIGURATION
    named = {one.path: one for one in core.configuration}
    for path, digest in launch.files.items():
        one = named.get(path)
        if one is None or one.digest != digest:
            expected, found = sha256_text(digest), sha256_text(one.digest) if one else "not named"
            yield Finding(reason=reason, what=path, expected=expected, found=found)
        elif not one.is_roots:
            expected = "root's, the directories above it too, and nobody else may write to them"
            yield Finding(reason=reason, what=path, expected=expected)
    for path in named.keys() - launch.files.keys():
        yield Finding(reason=reason, what=label(path), expected="no such file")
