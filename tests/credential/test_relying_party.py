"""The demo's relying party, where it cannot start; test_payments.py has the rest."""

from pathlib import Path

import pytest

from demo.relying_party import main
from tests.credential.conftest import Site
from tests.credential.world import AUDIENCE


def start(site: Site, *keys: str) -> int:
    files = ["--cert", str(site.certificate), "--key", str(site.key), "--ca", str(site.ca)]
    return main([*files, "--audience", AUDIENCE, "--minimum", "L2", "--status-unchecked", *keys])


def test_without_keys_it_does_not_listen(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing, empty = tmp_path / "nothing", tmp_path / "empty"
    empty.write_text('{"keys": []}')
    for keys in (
        ("--keys-url", "https://127.0.0.1:1/v1/keys"),
        ("--keys", str(nothing)),
        ("--keys", str(empty)),
    ):
        assert start(site, *keys) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "keys.malformed" in printed.err
