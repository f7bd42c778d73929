"""The verifier's configuration: one frozen value, read once from one TOML file.

Every option, with its default and its unit, is a line of `verifier/sample.toml`.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar

DEFAULT_PATH = Path("/etc/procseal/verifier.toml")

T = TypeVar("T")

_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Misconfigured(Exception):
    """The configuration, or something that it names, cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an operator decides before the start."""

    issuer: str
    """This verifier's URL: `iss` of every credential, and named in every challenge."""
    trust_domain: str
    """The SPIFFE trust domain of all workloads."""
    listen: str = "127.0.0.1"
    """Address that the attestors' door listens on."""
    port: int = 8443
    """TCP port of that door; 0 lets the kernel choose."""
    tls_certificate: Path = Path("server.pem")
    """PEM chain of the door's certificate. Relative paths start where this file is."""
    tls_key: Path = Path("server.key")
    """PEM private key of that certificate."""
    plain_http_on_loopback: bool = False
    """No TLS; refused unless `listen` is a loopback address. For development."""
    state: Path = Path("/var/lib/procseal/verifier")
    """Directory of the signing keys and the database; only the verifier may enter it."""
    database: str = ""
    """URL of SQLite or PostgreSQL; empty for `verifier.sqlite` in the state directory."""
    socket: Path = Path("/run/procseal/verifier.sock")
    """The operators' UNIX socket, mode 0600."""
    ek_roots: Path = Path("ek-roots")
    """Directory of PEM or DER certificates that EK certificates must chain to."""
    require_ek_certificate: bool = True
    """Whether an EK needs a certificate. The inventory is needed in any case."""
    allow_sha1_certificates: bool = False
    """Whether EK certificates signed over SHA-1 count, as chips of before 2016 have them."""
    allow_list: Path = Path("allow-list")
    """The inventory: lines of EK hash and node name."""
    interval: timedelta = timedelta(seconds=30)
    """How often a node is expected to bring evidence."""
    suspend_after: int = 3
    """Intervals without accepted evidence after which a node's credentials are suspended."""
    late_after: int = 10
    """Intervals without accepted evidence after which a node's credentials are revoked."""
    challenge_lifetime: timedelta = timedelta(seconds=60)
    """How long a challenge can be answered."""
    activation_lifetime: timedelta = timedelta(minutes=5)
    """How long an enrolment can be completed."""
    canary_every: timedelta = timedelta(hours=24)
    """How often a kernel has to show anew that it measures a workload's uid and file system. Each
    time leaves two records in its list until it reboots."""
    execute_register: int = 10
    """PCR of what runs with privilege: see ima_policies/kernel/README.md, as the next two."""
    user_register: int = 12
    """PCR of ordinary users' own files."""
    attestor_register: int = 13
    """PCR of the attestor's interpreted code."""
    most_evidence_bytes: int = 64 << 20
    """Longest evidence that is read; a measurement list has about 150 bytes per file."""
    most_message_bytes: int = 256 << 10
    """Longest of any other message."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, whoever makes the value."""
        _demand(re.fullmatch(r"https?://(?![?#/])[!-~]{1,512}", self.issuer), "issuer", "a URL")
        domain = re.fullmatch(r"[a-z0-9._-]{1,255}", self.trust_domain)
        _demand(domain, "trust_domain", "lower-case letters, digits, dots, dashes, underscores")
        _demand(_is_address(self.listen), "listen", "an IP address")
        _demand(0 <= self.port < 1 << 16, "port", "a number up to 65535")
        for name in ("interval", "challenge_lifetime", "activation_lifetime", "canary_every"):
            _demand(getattr(self, name) > timedelta(0), name, "more than no time")
        for name in ("suspend_after", "late_after", "most_evidence_bytes", "most_message_bytes"):
            _demand(getattr(self, name) > 0, name, "more than 0")
        _demand(self.suspend_after <= self.late_after, "suspend_after", "at most late_after")
        registers = (self.execute_register, self.user_register, self.attestor_register)
        _demand(len(set(registers)) == len(registers), "execute_register", "three registers")
        if self.plain_http_on_loopback and not ip_address(self.listen).is_loopback:
            raise Misconfigured("plain_http_on_loopback: listen has to be a loopback address")

    @property
    def database_url(self) -> str:
        """Return the URL of the database."""
        return self.database or f"sqlite:///{self.state / 'verifier.sqlite'}"

    @property
    def shared(self) -> dict[str, str]:
        """Return what all verifiers of a database have to say alike, by its option."""
        registers = ("execute_register", "user_register", "attestor_register")
        return {name: str(getattr(self, name)) for name in ("issuer", "trust_domain", *registers)}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the configuration in the file `path`; relative paths start at its directory."""
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long
            raise Misconfigured(f"{path}: {error}") from error
        try:
            return cls._read(values, path.parent)
        except Misconfigured as error:
            raise Misconfigured(f"{path}: {error}") from error

    @classmethod
    def _read(cls, values: Mapping[str, object], base: Path) -> Self:
        kinds = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(set(values) - set(kinds)):
            raise Misconfigured(f"unknown option {', '.join(unknown)}")
        for name in ("issuer", "trust_domain"):
            if name not in values:
                raise Misconfigured(f"{name} is missing")
        defaults = {field.name: field.default for field in fields(cls)}
        given = {name: _value(name, value, kinds[name]) for name, value in values.items()}
        every: dict[str, Any] = defaults | given
        for name, value in every.items():
            every[name] = base / value if isinstance(value, Path) else value
        return cls(**every)


def _demand(condition: object, name: str, what: str) -> None:
    if not condition:
        raise Misconfigured(f"{name}: expected {what}")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _value(name: str, value: object, kind: object) -> object:
    """Return the value of an option whose field has the type `kind`."""
    if kind is timedelta:
        return _duration(name, value)
    if kind is Path:
        return Path(_of_type(name, value, str))
    assert isinstance(kind, type)
    return _of_type(name, value, kind)


def _of_type(name: str, value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise Misconfigured(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _duration(name: str, value: object) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smh])", value) if isinstance(value, str) else None
    if match is None:
        raise Misconfigured(f'{name}: expected a duration such as "30s", "5m" or "1h"')
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
