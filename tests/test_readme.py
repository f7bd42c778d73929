"""The README says what is so: its help blocks are the programs' own words, its names exist.

python tests/test_readme.py --write puts what the programs say now into the help blocks.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from credential import local

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
FIRST_HOST = ROOT / "docs" / "first-host.md"
PROGRAMS = ("attestor", "verifier", "credential")

BLOCK = re.compile(r"(?m)^```\n\$ (?P<command>.+)\n(?P<said>(?:(?!```).*\n)*)```$")
"""A fenced block that starts with a command; what it says is the rest."""
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
MOST_COMMANDS = 10

Say = Callable[[str], str]


def say(command: str) -> str:
    """Return what a command of ours prints on a terminal of 80 columns."""
    program, *arguments = command.split()
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def fill(text: str, say: Say = say) -> str:
    """Return the text with the right words in every help block."""
    return BLOCK.sub(lambda block: f"```\n$ {block['command']}\n{say(block['command'])}```", text)


def section(text: str, title: str) -> str:
    """Return what stands under a heading."""
    [found] = re.findall(rf"(?ms)^## {re.escape(title)}$\n(.*?)(?=^## |\Z)", text)
    return str(found)


def commands(text: str) -> list[tuple[str, str]]:
    """Return (whose machine, command) of the README's first host; a command may have lines."""
    [block] = re.findall(r"(?ms)^```\n(.*?)^```$", section(text, "The first host"))
    found = re.findall(r"(?ms)^(verifier|node)# (.*?)\n(?=(?:verifier|node)# |\Z)", block)
    assert len(found) == len(re.findall(r"(?m)^\w+# ", block))
    return found


def folders() -> set[str]:
    """Return the names of the checkout's folders, those of tools and of what is made left out."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    found = {line.partition("/")[0] for line in listed.splitlines() if "/" in line}
    return {name for name in found if not name.startswith(".")}


def test_help_blocks_are_what_the_programs_print() -> None:
    text = README.read_text()
    assert {block["command"] for block in BLOCK.finditer(text)} >= {
        f"{program} --help" for program in PROGRAMS
    }
    assert text == fill(text), "run: .venv/bin/python tests/test_readme.py --write"


def test_a_block_that_is_off_is_noticed_and_mended() -> None:
    told = "a\n\n```\n$ x --help\nusage: x\n\ny\n```\n\n```\nno block\n```\n"
    assert fill(told, lambda _: "usage: x\n\ny\n") == told
    assert fill(told, lambda _: "usage: z\n") == told.replace("usage: x\n\ny\n", "usage: z\n")


def test_the_scenes_are_those_of_the_demo() -> None:
    scenes = pytest.importorskip("demo.scenes", reason="needs the TPM library").SCENES
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \|", section(README.read_text(), "What the demo shows"))
    assert rows == [scene.name for scene in scenes]


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=str)
def test_links_and_names_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"`((?:[a-z_]+/)+[A-Za-z_.-]*)`", text):
        assert path.partition("/")[0] not in folders() or (ROOT / path).exists(), path


def test_every_folder_is_in_the_list_of_rooms() -> None:
    listed = re.findall(r"(?m)^\| `([a-z_]+)/` \|", section(README.read_text(), "The rooms"))
    assert set(listed) | {"docs"} >= folders()


def test_the_first_host_takes_ten_commands() -> None:
    assert 0 < len(commands(README.read_text())) <= MOST_COMMANDS


def test_the_protocol_page_lists_every_message_and_its_members_in_order() -> None:
    rows = re.findall(r"(?m)^\| \w+ \| `procseal/1 (\w+)` \| (.*) \|$", PROTOCOL.read_text())
    assert [verb for verb, _ in rows] == list(dict(rows))
    assert dict(rows).keys() == local.MESSAGES.keys()
    members = {verb: [one.name for one in fields(kind)] for verb, kind in local.MESSAGES.items()}
    members["refused"] = ["reason", "what", "expected", "found"]
    for verb, told in rows:
        named = [name for name in re.findall(r"`([a-z_]+)`", told) if name in members[verb]]
        assert named == members[verb], verb


def test_the_page_about_the_image_makes_the_kernel_policy() -> None:
    """The parameters are put in as the virtual machine's are, which the tests boot."""
    from swtpm import kernel_policy  # noqa: PLC0415 - of this test alone

    [made] = re.findall(r"(?m)^(sed .*procseal\.policy) >", FIRST_HOST.read_text())
    done = subprocess.run(made, shell=True, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == kernel_policy.render()


def test_the_unit_has_the_capabilities_that_the_attestor_needs() -> None:
    from attestor import privileges  # noqa: PLC0415 - of this test alone

    for setting in ("AmbientCapabilities", "CapabilityBoundingSet"):
        [given] = re.findall(rf"(?m)^{setting}=(.*)$", FIRST_HOST.read_text())
        assert sorted(given.split()) == sorted(privileges.NAMES.values())


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    README.write_text(fill(README.read_text()))
