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
that the README names, and its test shows that it works. docs/levels.md says what each takes.
"""

ATTACKERS = {
    "Whoever reaches the network": (
        "the network", "anyone who reaches the verifier", "a stranger on the network",
        "another verifier", "another relying party", "a stranger",
    ),
    "Whoever copied a token, a proof or a sealed credential": (
        "whoever carries the token", "whoever copied the token", "whoever copied the grant",
        "whoever copied the sealed credential", "whoever hears a request",
    ),
    "The process itself": (
        "the process itself", "a process that has ended", "a process of another boot",
    ),
    "Another process of the same user": (
        "a process of the same user", "another program of the same user", "the same user",
        "a sibling process", "a child of the process", "a grandchild",
        "a grandchild on the child's channel", "whoever was given the socket",
        "a process that was handed the socket",
    ),
    "Another user of the node": (
        "an ordinary user", "an ordinary user of the node", "another user",
        "a process of another user", "a file server", "a relative of another user",
    ),
    "Root on the node": (
        "root on the node", "root on the node, with a known interpreter", "whoever resets the TPM",
        "a big-endian node", "a node with an old kernel", "a node with a late TPM",
        "a machine whose boot is not proven", "a node whose boot nobody judged",
        "whoever can open the TPM", "whoever starts a second attestor",
    ),
    "Another node, another TPM": (
        "another node", "root on another node", "a process of another node",
        "the owner of another TPM", "somebody with another TPM",
    ),
    "Whoever gives an operator files": ("whoever writes the files",),
    "Whoever writes to the verifier's database": ("whoever writes to the database",),
    "Mistakes and mishaps": (
        "an operator's mistake", "whoever finds a bug", "a power cut", "time",
        "a host with a wrong clock",
    ),
}  # fmt: skip
"""The page's headings, and the attackers that tests name; a test names no other."""

CLASSES = {name: heading for heading, names in ATTACKERS.items() for name in names}

Row = tuple[int, str, str, str, str]


class Collector:
    """Takes the marked tests out of a collection."""

    def __init__(self) -> None:
        self.rows: dict[str, set[Row]] = defaultdict(set)
        self.unknown: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep one row for each test function and marker."""
        for item in items:
            for marker in item.iter_markers("attack"):
                told = marker.kwargs
                name = getattr(item, "originalname", item.name)
                place = f"{item.path.relative_to(ROOT)}"
                if told["attacker"] not in CLASSES:
                    self.unknown.add(told["attacker"])
                    continue
                self.rows[CLASSES[told["attacker"]]].add(
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
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()[-2000:]}")
    if collector.unknown:
        raise SystemExit(f"attackers that no heading has: {sorted(collector.unknown)}")
    parts = [HEAD]
    for attacker in (one for one in ATTACKERS if one in collector.rows):
        rows = sorted(collector.rows[attacker])
        parts.append(f"\n## {attacker}\n")
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
