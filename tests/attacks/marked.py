"""The tests that carry the marker `attack`, as pytest collects them."""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

OUTCOMES = ("refused", "detected", "survived", "residual")
"""What comes of an attack: nothing is given; what was given ends; nobody is harmed; it works."""


@dataclass(frozen=True, order=True)
class Marked:
    """One marker of one test, and the binding of the process that it is about."""

    number: int
    asset: str
    level: str
    """The lowest at which the attack is refused, detected or survived."""
    name: str
    """Of the test function."""
    place: str
    attacker: str
    outcome: str
    """One of OUTCOMES."""
    bindings: tuple[str, ...]
    """Modes of binding that the test is played in; none where no process is bound in it."""


def collect() -> tuple[Marked, ...]:
    """Return every marker of every test, each once for each binding."""
    collector = _Collector()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests")],
            plugins=[collector],
        )
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()[-2000:]}")
    return tuple(sorted(collector.found))


class _Collector:
    """Takes the marked tests out of a collection."""

    def __init__(self) -> None:
        self.found: set[Marked] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.found |= {_read(item, one.kwargs) for one in item.iter_markers("attack")}


def _read(item: pytest.Item, told: Mapping[str, Any]) -> Marked:
    parameters = getattr(item, "callspec", None)
    played_in = parameters.params.get("binding") if parameters else None
    outcome = told.get("outcome", "refused")
    if outcome not in OUTCOMES:
        raise SystemExit(f"{item.nodeid}: an attack's outcome is one of {OUTCOMES}")
    return Marked(
        number=told["number"],
        asset=told["asset"],
        level=told.get("level", "every"),
        name=getattr(item, "originalname", item.name),
        place=f"{item.path.relative_to(ROOT)}",
        attacker=told["attacker"],
        outcome=outcome,
        bindings=tuple(told.get("bindings", (played_in,) if played_in else ())),
    )
