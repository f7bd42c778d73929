"""`verifier init`: keys, a CA for the doors' TLS, configuration. Nothing is ever overwritten."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from verifier.config import Config, Misconfigured
from verifier.keys import (
    GRANT_KEY,
    WIT_KEY,
    issue,
    make_authority,
    make_private,
    read_private,
    write_new,
)

SAMPLE = Path(__file__).with_name("sample.toml")
CONFIGURATION, CA, CA_KEY = "verifier.toml", "ca.pem", "ca.key"
SERVER, SERVER_KEY = "server.pem", "server.key"
ALLOW_LIST, EK_ROOTS = "allow-list", "ek-roots"

_HOST = re.compile(r"[A-Za-z0-9:._-]{1,253}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What `verifier init` is told."""

    directory: Path
    state: Path
    trust_domain: str
    issuer: str
    listen: str
    port: int
    hosts: tuple[str, ...]
    """Names and addresses that the door's certificate is for."""


def initialise(choices: Choices, *, now: datetime) -> list[Path]:
    """Make everything a verifier needs and return the files, the configuration first."""
    directory, state = choices.directory, choices.state
    config = directory / CONFIGURATION
    certificates = [directory / CA, directory / CA_KEY, directory / SERVER, directory / SERVER_KEY]
    keys = [state / WIT_KEY, state / GRANT_KEY]
    files = [config, *certificates, *keys, directory / ALLOW_LIST]
    _demand_absent(files)
    for host in choices.hosts:
        _demand_host(host)
    text = _configuration(choices)
    directory.mkdir(parents=True, exist_ok=True)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.chmod(0o700)
    (directory / EK_ROOTS).mkdir(exist_ok=True)
    for path in keys:
        make_private(path)
    ca_key = make_private(directory / CA_KEY)
    authority = make_authority(ca_key, trust_domain=choices.trust_domain, now=now)
    write_new(directory / CA, authority)
    issue_certificate("server", choices.hosts, directory=directory, target=directory, now=now)
    write_new(directory / ALLOW_LIST, b"# EK hash (`attestor ek` prints it)  node name\n")
    write_new(config, text.encode())
    return files


def issue_certificate(
    name: str, hosts: Sequence[str], *, directory: Path, target: Path, now: datetime
) -> list[Path]:
    """Make a key and a TLS server certificate by the CA in `directory`; return both files."""
    certificate, key_path = target / f"{name}.pem", target / f"{name}.key"
    _demand_absent([certificate, key_path])
    for host in (name, *hosts):
        _demand_host(host)
    try:
        ca = (directory / CA).read_bytes()
    except OSError as error:
        raise Misconfigured(f"{directory / CA}: {error.strerror}") from error
    ca_key = read_private(directory / CA_KEY)
    key = make_private(key_path)
    write_new(certificate, issue(key, hosts, ca=ca, ca_key=ca_key, now=now))
    return [certificate, key_path]


def _demand_absent(files: Sequence[Path]) -> None:
    present = [str(path) for path in files if path.exists()]
    if present:
        raise Misconfigured(f"there already: {', '.join(present)}; nothing was changed")


def _demand_host(host: str) -> None:
    if _HOST.fullmatch(host) is None:
        raise Misconfigured(f"{host!r}: expected a host name or an address")


def _configuration(choices: Choices) -> str:
    """Return the sample with these values; raise Misconfigured where one of them cannot be."""
    values: dict[str, str | int] = {
        "issuer": choices.issuer,
        "trust_domain": choices.trust_domain,
        "listen": choices.listen,
        "port": choices.port,
        "state": str(choices.state.absolute()),
        "socket": str(choices.state.absolute() / "verifier.sock"),
    }
    Config(
        issuer=choices.issuer,
        trust_domain=choices.trust_domain,
        listen=choices.listen,
        port=choices.port,
    )
    return fill(SAMPLE.read_text(encoding="utf-8"), values)


def fill(sample: str, values: Mapping[str, str | int]) -> str:
    """Return the sample with the lines of these options set. JSON's values are TOML's here."""
    for name, value in values.items():
        line = f"{name} = {json.dumps(value, ensure_ascii=False)}"
        found = re.search(rf"(?m)^(# )?{name} = .*$", sample)
        assert found is not None, f"the sample has a line for {name}"
        sample = sample[: found.start()] + line + sample[found.end() :]
    return sample
