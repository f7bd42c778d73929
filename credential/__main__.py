"""The program `credential`: say whether a token and a proof are good for a request."""

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from credential import status, wit
from credential.check import Statuses, decide
from credential.dpop import DPoP
from credential.keys import Keys
from credential.reasons import Malformed, Refused
from credential.requirements import BINDINGS, MAX_STATUS_AGE, Requirements
from credential.seen import Seen
from credential.sources import Sources
from credential.wit import LEVELS, PROOF_KEYS, Claims

ACCEPTED, REFUSED, MALFORMED, COULD_NOT_TELL = 0, 1, 2, 3


def main(argv: list[str] | None = None) -> int:
    """Run the program; exit 0 accepted, 1 refused, 2 malformed or misused, 3 could not tell."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        require = _requirements(arguments)
        claims = _verify(arguments, require)
    except (Malformed, Refused) as refusal:
        _tell_refusal(refusal, as_json=arguments.json)
        return MALFORMED if isinstance(refusal, Malformed) else REFUSED
    except ValueError as error:
        parser.error(str(error))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        parser.error(f"{error.filename}: {error.strerror}; is that its name?")
    except OSError as error:
        print(f"could not tell: {error}", file=sys.stderr)
        return COULD_NOT_TELL
    _tell_claims(claims, as_json=arguments.json)
    return ACCEPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="credential", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser(
        "verify",
        help="check a token and a proof as a relying party does",
        description="Check a token and a proof as a relying party does. Offline with files; where "
        "a FILE may be a URL, its server is asked. Whether the proof was used before is for the "
        "relying party to know.",
        epilog="exit status: 0 accepted, 1 refused, 2 malformed or misused, 3 could not tell",
    )
    verify.add_argument("token", type=Path, help="file that holds the token")
    verify.add_argument("proof", type=Path, nargs="?", help="file that holds the proof")
    verify.add_argument("--dpop", action="store_true", help="the proof is DPoP's; default: WPT")
    verify.add_argument("--method", required=True, help="of the request")
    verify.add_argument("--url", required=True, help="of the request")
    verify.add_argument("--at", type=_time, metavar="TIME", help="ISO 8601; default: now")
    verify.add_argument("--json", action="store_true", help="answer in JSON")
    _add_sources(verify)
    _add_requirements(verify)
    return parser


def _add_sources(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "--keys", metavar="FILE|URL", required=True, help="the verifier's JWKS (/v1/keys)"
    )
    verify.add_argument("--trust-domain", required=True, help="whose keys they are")
    statuses = verify.add_mutually_exclusive_group(required=True)
    statuses.add_argument(
        "--status", metavar="FILE|URL", help="the token's status list, from its uri"
    )
    statuses.add_argument(
        "--introspect", metavar="URL", help="ask the verifier there, as --name with --secret"
    )
    statuses.add_argument(
        "--status-unchecked", action="store_true", help="accept a token that may be revoked"
    )
    verify.add_argument("--name", default="", help="of this relying party, to be asked as")
    verify.add_argument("--secret", type=Path, metavar="FILE", help="file that holds its secret")
    verify.add_argument("--ca", type=Path, metavar="FILE", help="CA of the URLs, PEM")


def _add_requirements(verify: argparse.ArgumentParser) -> None:
    demands = verify.add_argument_group("what is demanded, of which each has to be met")
    demands.add_argument("--audience", required=True, help="the relying party's name")
    demands.add_argument("--minimum", required=True, choices=LEVELS, help="least level")
    demands.add_argument("--allow-lab", action="store_true", help="accept level lab")
    demands.add_argument("--binding", choices=BINDINGS, help="how it came to its attestor")
    demands.add_argument(
        "--proof-key",
        action="append",
        choices=PROOF_KEYS,
        help="who may hold it; or one of several",
    )
    demands.add_argument("--parent", metavar="SPIFFE-ID", help="that had it launched")
    demands.add_argument("--job", metavar="JOB", help="that it was launched for")
    demands.add_argument(
        "--max-evidence-age", type=int, metavar="SECONDS", help="since its evidence was judged"
    )
    demands.add_argument("--scope", action="append", help="that it has; repeat for more")
    demands.add_argument(
        "--executable", action="append", metavar="sha256:HEX", help="that it is; or one of several"
    )
    demands.add_argument(
        "--label", action="append", metavar="NAME=VALUE", help="of its node; repeat for more"
    )
    demands.add_argument(
        "--context", action="append", metavar="NAME[=VALUE]", help="that it has said; or more"
    )
    demands.add_argument(
        "--max-status-age",
        type=int,
        default=int(MAX_STATUS_AGE.total_seconds()),
        metavar="SECONDS",
        help="of the status list; default: %(default)s",
    )


def _time(text: str) -> datetime:
    """Return the ISO 8601 time in `text`, UTC if it names no zone."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _requirements(arguments: argparse.Namespace) -> Requirements:
    age = arguments.max_evidence_age
    return Requirements(
        audience=arguments.audience,
        minimum=arguments.minimum,
        allow_lab=arguments.allow_lab,
        binding=arguments.binding,
        proof_keys=_all_of(arguments.proof_key),
        parent=arguments.parent,
        job=arguments.job,
        max_evidence_age=None if age is None else timedelta(seconds=age),
        scopes=_all_of(arguments.scope),
        executables=_all_of(arguments.executable),
        labels=_all_of(arguments.label),
        context=_all_of(arguments.context),
        max_status_age=timedelta(seconds=arguments.max_status_age),
    )


def _all_of(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


def _verify(arguments: argparse.Namespace, require: Requirements) -> Claims:
    sources = Sources(ca=arguments.ca)
    keys = Keys.read(sources.read(arguments.keys), trust_domain=arguments.trust_domain)
    token = _read(arguments.token)
    now = arguments.at or datetime.now(UTC)
    statuses = _statuses(arguments, sources, keys, token, now)
    return decide(
        token,
        _proof(arguments),
        keys=keys,
        require=require,
        method=arguments.method,
        url=arguments.url,
        now=now,
        seen=Seen(),
        status=statuses,
    )


def _proof(arguments: argparse.Namespace) -> str | DPoP | None:
    """Return the proof; which nonces a relying party gave, it alone can know."""
    text = _read(arguments.proof) if arguments.proof else ""
    return DPoP(proof=text, nonces="unchecked") if arguments.dpop else text


def _statuses(
    arguments: argparse.Namespace, sources: Sources, keys: Keys, token: str, now: datetime
) -> Statuses:
    if arguments.status_unchecked:
        return "unchecked"
    if arguments.introspect:
        if not arguments.name or not arguments.secret:
            raise ValueError("--introspect takes --name and --secret")
        wit.read(token, keys)  # the verifier is asked about what it has signed
        secret = _read(arguments.secret)
        return sources.introspect(
            arguments.introspect, name=arguments.name, secret=secret, token=token, now=now
        )
    found = status.read(_text(sources.read(arguments.status)), keys)
    return {found.uri: found}


def _read(path: Path) -> str:
    return _text(path.read_bytes())


def _text(data: bytes) -> str:
    """Return text without a last line end; any byte, for the reader to refuse."""
    return data.decode("latin-1").removesuffix("\n")


def _tell_refusal(refusal: Malformed | Refused, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(refusal.to_json(), indent=2))
    else:
        print("\n".join(_printable(finding.lines()) for finding in refusal.findings))


def _printable(text: str) -> str:
    """Return lines whose characters do nothing to a terminal."""
    return re.sub(r"[^ -~\n]", "?", text)


def _tell_claims(claims: Claims, *, as_json: bool) -> None:
    procseal = claims.procseal
    told = {
        "id": claims.id,
        "level": procseal.level,
        "expires": claims.expires.isoformat(),
        "evidence_judged": claims.issued.isoformat(),
        "binding": procseal.binding,
        "executable": procseal.executable,
        "set": procseal.set,
        "node": procseal.node,
        "labels": dict(procseal.labels),
        "unit": procseal.unit,
        "user": procseal.user,
        "scopes": list(procseal.scopes),
        "parent": procseal.parent,
        "job": procseal.job,
        "context": dict(procseal.context),
        "grant": procseal.grant,
        "jti": claims.jti,
        "evidence": procseal.evidence,
    }
    if as_json:
        print(json.dumps({"verdict": "accepted", **told}, indent=2))
        return
    print(f"accepted  {claims.id}")
    for name, value in list(told.items())[1:]:
        print(f"  {name:<15} {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={found}" for name, found in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
