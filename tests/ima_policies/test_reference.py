"""The reference values that come with the project are read as a verifier reads them."""

import hashlib
from pathlib import Path

import pytest

from verifier.policy import Signer
from verifier.reference import read_reference, read_reference_value

VALUES = sorted((Path(__file__).parents[2] / "ima_policies" / "reference").glob("*.toml"))


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.stem)
def test_a_value_is_read_and_is_named_like_its_file(path: Path) -> None:
    assert read_reference_value(path.read_text()).name == path.stem


def test_the_example_holds_the_digests_that_it_says() -> None:
    [example] = [read_reference(path.read_text()) for path in VALUES if path.stem == "example"]
    lines = [b"second, version 1\n", b"second, version 2\n"]
    digests = {hashlib.sha256(line).digest() for line in lines}
    assert set(example.files["opt/example/bin/second"]) == digests


def test_the_example_of_a_signer_revokes_what_it_says() -> None:
    [text] = [path.read_text() for path in VALUES if path.stem == "example-signer"]
    signer = read_reference_value(text)
    assert isinstance(signer, Signer)
    digest = hashlib.sha256(b"second, version 1\n").hexdigest()
    assert signer.revoked == {f"sha256:{digest}"}
