"""A test that asks for what there is not stops the collection."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import pytest\n@pytest.fixture\ndef there(): pass\n"


def collect(folder: Path, text: str, repository: Path, *options: str) -> tuple[int, str]:
    """Return pytest's exit status and what it says of a file with these tests."""
    file = folder / "test_it.py"
    file.write_text(HEAD + text)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "tests.asked_fixtures", "-p", "no:cacheprovider",
            "-c", "/dev/null", "--rootdir", folder, "--collect-only", *options, file,
        ],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("def test_it(gone): pass", id="by a test"),
        pytest.param("@pytest.mark.usefixtures('gone')\ndef test_it(): pass", id="by a marker"),
        pytest.param("@pytest.fixture\ndef that(gone): pass\ndef test_it(that): pass",
                     id="by a fixture"),
        pytest.param("class TestIt:\n def test_it(self, there, gone): pass", id="by a method"),
        pytest.param(
            "@pytest.mark.parametrize('there', [1], indirect=True)\n"
            "@pytest.mark.parametrize('one', [1])\ndef test_it(one, there, gone): pass",
            id="among parameters",
        ),
    ],
)  # fmt: skip
def test_a_fixture_that_there_is_not(text: str, tmp_path: Path, repository: Path) -> None:
    code, said = collect(tmp_path, text, repository, "-k", "nothing")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "asks for gone, which is no fixture" in said


def test_fixtures_that_there_are(tmp_path: Path, repository: Path) -> None:
    text = (
        "@pytest.mark.parametrize('there', [1], indirect=True)\n"
        "@pytest.mark.parametrize('one', [1])\n"
        "def test_it(one, there, request, tmp_path): pass\n"
    )
    code, said = collect(tmp_path, text, repository)
    assert code == pytest.ExitCode.OK, said
