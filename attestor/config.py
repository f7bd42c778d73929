"""The attestor's configuration: one frozen value, read once from one TOML file.

Every option, with its default and its unit, is a line of `attestor/sample.toml`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, get_args
from urllib.parse import urlsplit

EkKind = Literal["rsa2048", "ecc256"]

DEFAULT_PATH = Path("/etc/procseal/attestor.toml")

T = TypeVar("T")

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_REQUIRED = ("node", "verifier")


class Misconfigured(Exception):
    """The configuration, or something that it names, cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an operator decides before the start."""

    node: str
    """The name that the node enrols under."""
    verifier: str
    """The verifier's URL."""
    ca_file: Path = Path("ca.pem")
    """PEM certificates, one of which signed the verifier's. Relative paths start where this
    file is."""
    tcti: str = "device:/dev/tpmrm0"
    """How libtss2 reaches the TPM."""
    ek: str = "rsa2048"
    """Which endorsement key: `rsa2048` or `ecc256`, templates L-1 and L-2."""
    socket: Path = Path("/run/procseal/attestor.sock")
    """Where processes connect."""
    state: Path = Path("/var/lib/procseal/attestor")
    """Directory for the few facts that outlive the attestor; only it may enter."""
    interval: timedelta = timedelta(seconds=30)
    """How often evidence is brought. Whoever asks for a credential does not wait for it."""
    looker_uid: int = 991
    """Uid of the process that looks at others and hashes their files: no FILE_CHECK rule of the
    kernel policy may name it."""
    look_seconds: int = 10
    """How long one look may take, hashing included."""
    most_file_bytes: int = 512 << 20
    """Longest file that is hashed for a look."""
    verifier_seconds: int = 30
    """How long one answer of the verifier's may take."""
    measurement_list: Path = Path("/sys/kernel/security/ima/binary_runtime_measurements")
    """The kernel's list, the binary one."""
    boot_log: Path = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
    """The firmware's event log."""
    canary_directories: tuple[str, ...] = ()
    """Directories in which root may make files that can be executed, where the root of no mount
    of a workload's file system is one."""
    most_connections: int = 4096
    """Connections of all users together."""
    most_user_connections: int = 1024
    """Connections of one user."""
    most_user_waiting: int = 32
    """Connections of one user that have no credential yet."""
    user_requests_per_minute: int = 240
    """Credentials, launches and questions of one user; 64 may follow each other at once."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, whoever makes the value."""
        name = re.fullmatch(r"[a-z0-9.-]{1,63}", self.node)
        _demand(name, "node", "lower-case letters, digits, dots and dashes, at most 63")
        url = urlsplit(self.verifier)
        _demand(url.scheme == "https" and url.hostname, "verifier", "an https URL")
        _demand(self.ek in get_args(EkKind), "ek", " or ".join(get_args(EkKind)))
        _demand(self.interval > timedelta(0), "interval", "more than no time")
        for one in fields(self):
            if one.type is int:
                _demand(getattr(self, one.name) > 0, one.name, "more than 0")

    @property
    def ek_kind(self) -> EkKind:
        """The endorsement key's template."""
        return cast("EkKind", self.ek)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the configuration in the file `path`; relative paths start at its directory."""
        import tomllib  # noqa: PLC0415 - whoever may not read the file does without

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
        for name in _REQUIRED:
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


def _value(name: str, value: object, kind: object) -> object:
    """Return the value of an option whose field has the type `kind`."""
    if kind is timedelta:
        return _duration(name, value)
    if kind == tuple[str, ...]:
        return tuple(_of_type(name, one, str) for one in _of_type(name, value, list))
    if kind is Path:
        return Path(_of_type(name, value, str))
    assert isinstance(kind, type)
    return _of_type(name, value, kind)


def _of_type(name: str, value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise Misconfigured(f"{name}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _duration(name: str, value: object) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,6})([smh])", _of_type(name, value, str))
    if found is None:
        raise Misconfigured(f"{name}: expected a duration such as 30s, 10m or 1h")
    return timedelta(seconds=int(found.group(1)) * _SECONDS[found.group(2)])
