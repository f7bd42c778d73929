"""A gate as a file describes it: what an operator decides about who is let into an application.

gate = load_gate("gate.toml")

Options, those that have to be there first:

    verifier = "https://verifier.example.org:8443"    its URL, as its tokens have it
    trust_domain = "example.org"                      whose keys they are
    keys = "keys.json"                                the verifier's JWKS (GET /v1/keys)
    audience = "https://ledger.example.org"           and each other field of `Requirements`:
    minimum = "L2"                                    lists as arrays, durations such as "60s"

    ca = "ca.pem"                 CA of the verifier's TLS certificate; default: the system's
    reached_at = "https://..."    where the verifier is, if its URL does not lead there
    url = "https://..."           this server's, as clients know it; default: the audience
    status = "lists"              or "introspection", or "unchecked"
    seen = "seen.sqlite"          where proofs are remembered; default: in this process alone
    report = false                whether each line of the log goes to the verifier's ledger too
    spool = "uses.sqlite"         where lines wait for that
    name = "ledger"               of this relying party, for introspection and reports
    secret = "secret"             file that holds its secret
"""

import re
import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from credential.keys import Keys
from credential.reasons import Malformed
from credential.requirements import Requirements
from credential.seen_file import SeenFile
from credential.servers.gate import Gate
from credential.servers.introspection import Introspection
from credential.servers.reports import Reports
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import Verifier

STATUSES = ("lists", "introspection", "unchecked")
NEEDED = ("verifier", "trust_domain", "keys", "audience", "minimum")
DEMANDS = tuple(field.name for field in fields(Requirements))

_SECONDS = {"s": 1, "m": 60, "h": 3600}

Options = Mapping[str, Any]


class Misconfigured(ValueError):
    """The file, or something that it names, cannot be used."""


def load_gate(path: str | Path, *, log: Callable[[str], object] | None = None) -> Gate:
    """Return the gate that the TOML file describes; relative paths start at its directory.

    `log` is the gate's: each line goes to the standard error stream without it. Raise Misconfigured
    where an option is missing, unknown or of no use, OSError where a file cannot be read.
    """
    file = Path(path)
    try:
        return _gate(_read(tomllib.loads(file.read_text(encoding="utf-8"))), file.parent, log)
    except (ValueError, Malformed) as error:
        raise Misconfigured(f"{file}: {error}") from error


def _gate(given: Options, base: Path, log: Callable[[str], object] | None) -> Gate:
    keys = Keys.read((base / given["keys"]).read_bytes(), trust_domain=given["trust_domain"])
    verifier = _verifier(given, base)
    seen = SeenFile(base / given["seen"]) if "seen" in given else None
    return Gate(
        keys=keys,
        require=Requirements(**{name: given[name] for name in DEMANDS if name in given}),
        status=_status(given, verifier, keys),
        base_url=given.get("url"),
        seen=seen,
        nonces=seen.nonces if seen else None,
        reports=_reports(given, verifier, base),
        log=log,
    )


def _verifier(given: Options, base: Path) -> Verifier:
    ca = base / given["ca"] if "ca" in given else None
    secret = (base / given["secret"]).read_text("ascii").strip() if "secret" in given else ""
    return Verifier(
        given["verifier"],
        tls=ssl.create_default_context(cafile=ca),
        reached_at=given.get("reached_at"),
        name=given.get("name", ""),
        secret=secret,
    )


def _status(
    given: Options, verifier: Verifier, keys: Keys
) -> StatusLists | Introspection | Literal["unchecked"]:
    wanted = given.get("status", "lists")
    if wanted == "unchecked":
        return "unchecked"
    if wanted == "lists":
        return StatusLists(verifier, keys=keys)
    _demand_secret(verifier, "status")
    return Introspection(verifier)


def _reports(given: Options, verifier: Verifier, base: Path) -> Reports | None:
    if not given.get("report", False):
        return None
    _demand_secret(verifier, "report")
    if "spool" not in given:
        raise Misconfigured("report: expected a spool")
    return Reports(verifier, base / given["spool"])


def _demand_secret(verifier: Verifier, name: str) -> None:
    if not verifier.name or not verifier.secret:
        raise Misconfigured(f"{name}: expected name and secret, by which the verifier knows it")


def _read(values: Options) -> Options:
    """Return the options with their values, each of its type."""
    if unknown := sorted(set(values) - set(_READERS)):
        raise Misconfigured(f"unknown option {', '.join(unknown)}")
    if missing := [name for name in NEEDED if name not in values]:
        raise Misconfigured(f"missing: {', '.join(missing)}")
    return {name: _READERS[name](name, value) for name, value in values.items()}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Misconfigured(f"{name}: expected a text")
    return value


def _one_of_statuses(name: str, value: object) -> str:
    if value not in STATUSES:
        raise Misconfigured(f"{name}: expected one of {', '.join(STATUSES)}")
    return _text(name, value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise Misconfigured(f"{name}: expected true or false")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Misconfigured(f"{name}: expected an array")
    return tuple(_text(name, one) for one in value)


def _duration(name: str, value: object) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smh])", _text(name, value))
    if match is None:
        raise Misconfigured(f'{name}: expected a duration such as "30s", "5m" or "1h"')
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


_READERS: Mapping[str, Callable[[str, object], object]] = {
    **dict.fromkeys(
        (
            "verifier", "trust_domain", "keys", "audience", "minimum", "ca", "reached_at", "url",
            "seen", "spool", "name", "secret", "binding", "parent", "job",
        ),
        _text,
    ),
    **dict.fromkeys(("allow_lab", "report"), _flag),
    **dict.fromkeys(("proof_keys", "scopes", "executables", "labels", "context"), _texts),
    **dict.fromkeys(("max_evidence_age", "max_status_age"), _duration),
    "status": _one_of_statuses,
}  # fmt: skip
