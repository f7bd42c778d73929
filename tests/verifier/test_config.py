"""The configuration: what may be set, what is refused, and that the sample tells the truth."""

import re
import tomllib
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path

import pytest

from verifier.config import Config, Misconfigured
from verifier.init import SAMPLE, fill

MINIMAL = 'issuer = "https://v.example.org"\ntrust_domain = "example.org"\n'


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "verifier.toml"
    path.write_text(text)
    return Config.load(path)


def plain(value: object) -> object:
    """Return a default as the sample writes it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return f"{seconds // 60}m" if seconds > 60 else f"{seconds}s"
    return value


def test_the_sample_lists_every_option_with_its_default() -> None:
    sample = SAMPLE.read_text()
    required = tomllib.loads(sample)
    defaults = tomllib.loads(re.sub(r"(?m)^# ([a-z0-9_]+ = )", r"\1", sample))
    expected = {
        one.name: plain(one.default) for one in fields(Config) if one.default is not MISSING
    }
    assert set(required) == {one.name for one in fields(Config) if one.default is MISSING}
    assert {name: defaults[name] for name in expected} == expected
    assert set(defaults) == set(expected) | set(required)


def test_the_sample_loads(tmp_path: Path) -> None:
    config = load(tmp_path, SAMPLE.read_text())
    assert config == load(
        tmp_path, MINIMAL.replace("//v.", "//verifier.").replace('g"\nt', 'g:8443"\nt')
    )


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL + 'tls_key = "keys/door.pem"\nek_roots = "/roots"\n')
    assert config.tls_key == tmp_path / "keys" / "door.pem"
    assert config.allow_list == tmp_path / "allow-list"
    assert config.ek_roots == Path("/roots")


def test_the_database_is_in_the_state_directory_unless_named(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + 'state = "s"').database_url.endswith("/s/verifier.sqlite")
    assert load(tmp_path, MINIMAL + 'database = "sqlite:////x"').database_url == "sqlite:////x"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param('issuer = "https://v.example.org"', id="no trust domain"),
        pytest.param(MINIMAL + "ports = 1", id="unknown option"),
        pytest.param(MINIMAL + 'port = "1"', id="text for a number"),
        pytest.param(MINIMAL + "port = true", id="truth for a number"),
        pytest.param(MINIMAL + "port = 65536", id="port too high"),
        pytest.param(MINIMAL + "interval = 30", id="number for a duration"),
        pytest.param(MINIMAL + 'interval = "30"', id="duration without a unit"),
        pytest.param(MINIMAL + 'interval = "0s"', id="no time at all"),
        pytest.param(MINIMAL + "late_after = 0", id="late at once"),
        pytest.param(MINIMAL + 'listen = "everywhere"', id="no address"),
        pytest.param(MINIMAL + "execute_register = 12", id="a register twice"),
        pytest.param(MINIMAL.replace("https", "ftp"), id="no http"),
        pytest.param(MINIMAL.replace('"example.org"', '"example.org\\n"'), id="a line feed"),
        pytest.param("issuer = [", id="not TOML"),
        pytest.param(
            MINIMAL + 'plain_http_on_loopback = true\nlisten = "0.0.0.0"', id="plain HTTP outside"
        ),
    ],
)
def test_it_refuses(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured):
        load(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        Config.load(tmp_path / "none.toml")


@pytest.mark.parametrize("value", ['with "quotes" and \\', "ümlaut", 7])
def test_filling_the_sample_keeps_values_as_they_are(tmp_path: Path, value: str | int) -> None:
    name = "port" if isinstance(value, int) else "database"
    filled = fill(SAMPLE.read_text(), {name: value})
    assert getattr(load(tmp_path, filled), name) == value
