"""docs/threat-model.md and the README's table of attacks on processes: no row without a test.

python tests/attacks/threat_model.py writes both, from the tests that carry the marker `attack`;
with --check it says whether they are current.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.attacks.bindings import fill_table
from tests.attacks.marked import ROOT, Marked, collect

README = ROOT / "README.md"
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

Row = tuple[int, str, str, str, str]

CLASSES = {name: heading for heading, names in ATTACKERS.items() for name in names}


def make_page(marked: Iterable[Marked]) -> str:
    """Return the page."""
    rows: dict[str, set[Row]] = defaultdict(set)
    for one in marked:
        if one.attacker not in CLASSES:
            raise SystemExit(f"an attacker that no heading has: {one.attacker}")
        row = one.number, one.asset, one.level, one.name, one.place
        rows[CLASSES[one.attacker]].add(row)
    parts = [HEAD]
    for attacker in (one for one in ATTACKERS if one in rows):
        parts.append(f"\n## {attacker}\n")
        parts.append("| asset | attack | level | test |\n|---|---|---|---|")
        parts += [
            f"| {asset} | {number}: {_words(name)} | {level} | `{place}` |"
            for number, asset, level, name, place in sorted(rows[attacker])
        ]
    return "\n".join(parts) + "\n"


def _words(name: str) -> str:
    """Return a test's name as words, without its number."""
    words = name.removeprefix("test_").split("_")
    return " ".join(words[1:] if words[0].isdigit() else words)


def main(argv: list[str]) -> int:
    """Write or check the page and the table."""
    marked = collect()
    made = {PAGE: make_page(marked), README: fill_table(README.read_text(), marked)}
    if argv != ["--check"]:
        for path, text in made.items():
            path.write_text(text)
        return 0
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        name = path.relative_to(ROOT)
        print(f"{name} is not current; run: python tests/attacks/threat_model.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
