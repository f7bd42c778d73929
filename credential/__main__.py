"""The program `credential`: say whether a token and a proof are good for a request."""

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from credential import status
from credential.check import check
from credential.keys import Keys
from credential.reasons import Malformed, Refused
from credential.requirements import MAX_STATUS_AGE, Requirements
from credential.seen import Seen
from credential.status import StatusList
from credential.wit import LEVELS, Claims

ACCEPTED, REFUSED, MALFORMED, COULD_NOT_TELL = 0, 1, 2, 3


def main(argv: list[str] | None = None) -> int:
    """Run the program; exit 0 accepted, 1 refused, 2 malformed or misused, 3 could not tell."""
    arguments = _parser().parse_args(argv)
    try:
        claims = _verify(arguments)
    except (Malformed, Refused) as refusal:
        _tell_refusal(refusal, as_json=arguments.json)
        return MALFORMED if isinstance(refusal, Malformed) else REFUSED
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
        description="Check a token and a proof as a relying party does, without any service. "
        "Whether the proof was used before is for the relying party to know.",
        epilog="exit status: 0 accepted, 1 refused, 2 malformed or misused, 3 could not tell",
    )
    verify.add_argument("token", type=Path, help="file that holds the token")
    verify.add_argument("proof", type=Path, nargs="?", help="file that holds the proof")
    verify.add_argument("--keys", type=Path, required=True, help="the verifier's JWKS, a file")
    verify.add_argument("--trust-domain", required=True, help="whose keys they are")
    verify.add_argument("--audience", required=True, help="the relying party's name")
    verify.add_argument("--method", required=True, help="of the request")
    verify.add_argument("--url", required=True, help="of the request")
    verify.add_argument("--minimum", required=True, choices=LEVELS, help="least level")
    listed = verify.add_mutually_exclusive_group(required=True)
    listed.add_argument(
        "--status", type=Path, metavar="FILE", help="the token's status list, from its uri"
    )
    listed.add_argument(
        "--status-unchecked", action="store_true", help="accept a token that may be revoked"
    )
    verify.add_argument(
        "--max-status-age",
        type=int,
        default=int(MAX_STATUS_AGE.total_seconds()),
        metavar="SECONDS",
        help="of that list; default: %(default)s",
    )
    verify.add_argument("--allow-lab", action="store_true", help="accept level lab")
    verify.add_argument("--at", type=_time, metavar="TIME", help="ISO 8601; default: now")
    verify.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _time(text: str) -> datetime:
    """Return the ISO 8601 time in `text`, UTC if it names no zone."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _verify(arguments: argparse.Namespace) -> Claims:
    keys = Keys.read(arguments.keys.read_bytes(), trust_domain=arguments.trust_domain)
    return check(
        _read(arguments.token),
        _read(arguments.proof) if arguments.proof else None,
        keys=keys,
        require=_requirements(arguments),
        method=arguments.method,
        url=arguments.url,
        now=arguments.at or datetime.now(UTC),
        seen=Seen(),
        status=_status(arguments, keys),
    )


def _requirements(arguments: argparse.Namespace) -> Requirements:
    return Requirements(
        audience=arguments.audience,
        minimum=arguments.minimum,
        allow_lab=arguments.allow_lab,
        max_status_age=timedelta(seconds=arguments.max_status_age),
    )


def _status(
    arguments: argparse.Namespace, keys: Keys
) -> dict[str, StatusList] | Literal["unchecked"]:
    if arguments.status_unchecked:
        return "unchecked"
    found = status.read(_read(arguments.status), keys)
    return {found.uri: found}


def _read(path: Path) -> str:
    """Return the file's text without a last line end; any byte, for the reader to refuse."""
    return path.read_text(encoding="latin-1").removesuffix("\n")


def _tell_refusal(refusal: Malformed | Refused, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(refusal.to_json(), indent=2))
    else:
        print("\n".join(finding.lines() for finding in refusal.findings))


def _tell_claims(claims: Claims, *, as_json: bool) -> None:
    procseal = claims.procseal
    told = {
        "id": claims.id,
        "level": procseal.level,
        "expires": claims.expires.isoformat(),
        "executable": procseal.executable,
        "set": procseal.set,
        "node": procseal.node,
        "unit": procseal.unit,
        "user": procseal.user,
        "scopes": list(procseal.scopes),
        "evidence": procseal.evidence,
    }
    if as_json:
        print(json.dumps({"verdict": "accepted", **told}, indent=2))
    else:
        print(f"accepted  {claims.id}")
        for name, value in list(told.items())[1:]:
            print(f"  {name:<11} {' '.join(value) if isinstance(value, list) else value}")


if __name__ == "__main__":
    sys.exit(main())
