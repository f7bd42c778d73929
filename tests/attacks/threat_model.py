"""docs/threat-model.md, made from the tests that carry the marker `attack`: no row without a test.

python tests/attacks/threat_model.py writes the page; with --check it says whether it is current.
"""

import contextlib
import io
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "threat-model.md"

HEAD = """\
# Threat model

Who may try what, against which asset, and the test that shows what comes of it. The rows are made
from the tests by `python tests/attacks/threat_model.py`; `make check` fails when they are not
current. The numbers are those of the project's list of attacks.

*Level* is the lowest assurance level at which the attack is refused, detected or survived: `every`
unless the row says otherwise. Below a level that a row names, the attack works: it is a residual
that the README names, and its test shows that it works. Boot event logs are not judged yet, so
every node is of the level `lab` for now.
"""

Row = tuple[int, str, str, str, str]


class Collector:
    """Takes the marked tests out of a collection."""

    def __init__(self) -> None:
        self.rows: dict[str, set[Row]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep one row for each test function and marker."""
        for item in items:
            for marker in item.iter_markers("attack"):
                told = marker.kwargs
                name = getattr(item, "originalname", item.name)
                place = f"{item.path.relative_to(ROOT)}"
                self.rows[told["attacker"]].add(
                    (told["number"], told["asset"], told.get("level", "every"), name, place)
                )


def make_page() -> str:
    """Collect the tests and return the page."""
    collector = Collector()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests")],
            plugins=[collector],
        )
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()}")
    parts = [HEAD]
    for attacker in sorted(collector.rows, key=str.lower):
        rows = sorted(collector.rows[attacker])
        parts.append(f"\n## {attacker[0].upper()}{attacker[1:]}\n")
        parts.append("| asset | attack | level | test |\n|---|---|---|---|")
        parts += [
            f"| {asset} | {number}: {_words(name)} | {level} | `{place}` |"
            for number, asset, level, name, place in rows
        ]
    return "\n".join(parts) + "\n"


def _words(name: str) -> str:
    """Return a test's name as words, without its number."""
    words = name.removeprefix("test_").split("_")
    return " ".join(words[1:] if words[0].isdigit() else words)


def main(argv: list[str]) -> int:
    """Write or check the page."""
    page = make_page()
    if argv == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page:
            return 0
        print("docs/threat-model.md is not current; run: python tests/attacks/threat_model.py")
        return 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
