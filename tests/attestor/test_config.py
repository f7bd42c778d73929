"""The configuration, and the sample that shows all of it."""

import re
import tomllib
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

import attestor
from attestor.__main__ import main
from attestor.config import Config, Misconfigured

SAMPLE = Path(attestor.__file__).with_name("sample.toml").read_text()


def test_the_sample_shows_every_option_with_its_default(tmp_path: Path) -> None:
    shown = tomllib.loads(re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", SAMPLE))
    assert set(shown) == {field.name for field in fields(Config)}
    path = tmp_path / "attestor.toml"
    path.write_text(SAMPLE)
    defaults = Config.load(path)
    path.write_text(re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", SAMPLE))
    assert Config.load(path) == defaults


def test_the_program_prints_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample-config"]) == 0
    assert capsys.readouterr().out == SAMPLE


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "attestor.toml"
    path.write_text('node = "n"\nverifier = "https://v"\nca_file = "x/ca.pem"\ninterval = "2s"\n')
    config = Config.load(path)
    assert config.ca_file == tmp_path / "x/ca.pem"
    assert config.interval == timedelta(seconds=2)


@pytest.mark.parametrize(
    "line",
    [
        'node = "Upper"',
        'node = ""',
        'verifier = "http://plain.example.org"',
        'verifier = "verifier.example.org"',
        'ek = "rsa4096"',
        'interval = "0s"',
        'interval = "2"',
        "interval = 2",
        "look_seconds = 0",
        "look_seconds = true",
        "tcti = 1",
        "unknown = 1",
        "node",
    ],
)  # fmt: skip
def test_what_cannot_be_used(tmp_path: Path, line: str) -> None:
    good = {"node": 'node = "n"', "verifier": 'verifier = "https://v.example.org"'}
    good[line.partition(" ")[0] or line] = line
    path = tmp_path / "attestor.toml"
    path.write_text("\n".join(good.values()))
    with pytest.raises(Misconfigured):
        Config.load(path)
