"""A verifier's keys, one process and one request, all in order; a test changes one thing."""
# ruff: noqa: ANN401 - `changes` are fields of any type, refusals of two

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from credential import (
    Claims,
    Keys,
    Procseal,
    Requirements,
    Seen,
    base64url,
    check,
    crypto,
    dpop,
    jws,
    keys,
    status,
    wit,
    wpt,
)
from credential.dpop import DPoP
from credential.nonces import Nonces
from credential.status import Place, Status, StatusList

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AUDIENCE = "https://ledger.example.org"
URL = "https://ledger.example.org/post"
ID = "spiffe://example.org/payments"

VERIFIER_KEY = crypto.generate()
KID = keys.thumbprint(crypto.point_of(VERIFIER_KEY))
KEYS = Keys.of("example.org", [(KID, crypto.point_of(VERIFIER_KEY))])
USE_KEY = crypto.generate()
OTHER_KEY = crypto.generate()

PLACE = Place(uri="https://verifier.example.org/v1/status/3", index=1234)

PROCSEAL = Procseal(
    level="L2",
    binding="attached",
    peer_proof="pidfs",
    proof_key="attestor",
    executable="sha256:" + "3f" * 32,
    set="payments-1.4",
    node="build-7",
    boot="41c0a9ce-5a0c-4a6c-8d3f-1b2c3d4e5f60",
    labels={"zone": "eu-1"},
    unit="payments.service",
    user="payments",
    audiences=(AUDIENCE,),
    scopes=("post",),
    parent="",
    job="",
    context={"session": "17"},
    grant="",
    evidence="sha256:" + "b0" * 32,
    ledger=17,
)
CLAIMS = Claims(
    issuer="https://verifier.example.org",
    id=ID,
    issued=NOW,
    expires=NOW + timedelta(minutes=10),
    jti="Zm9vYmFyYmF6cXV4MTIzNA",
    use_key=crypto.point_of(USE_KEY),
    status=PLACE,
    procseal=PROCSEAL,
)


def make_claims(**changes: Any) -> Claims:
    """The claims, changed; what is a field of Procseal is changed there."""
    inner = {name: changes.pop(name) for name in list(changes) if hasattr(PROCSEAL, name)}
    return replace(CLAIMS, procseal=replace(PROCSEAL, **inner), **changes)


def make_token(*, key: crypto.PrivateKey = VERIFIER_KEY, kid: str = KID, **changes: Any) -> str:
    """A token by the verifier."""
    return wit.encode(make_claims(**changes), key=key, kid=kid)


TOKEN = make_token()


def make_proof(token: str = TOKEN, *, key: crypto.PrivateKey = USE_KEY, **changes: Any) -> str:
    """A proof by the attestor."""
    request: dict[str, Any] = {
        "audience": AUDIENCE, "method": "POST", "url": URL, "now": NOW, "jti": b"j" * 16,
    }  # fmt: skip
    return wpt.compose(token=token, **{**request, **changes}).sign(key)


NONCES = Nonces(b"n" * 32)


def make_dpop(
    token: str = TOKEN,
    *,
    key: crypto.PrivateKey = USE_KEY,
    nonces: Nonces | Literal["unchecked"] = NONCES,
    **changes: Any,
) -> DPoP:
    """A DPoP proof by the attestor, with the nonce of its time unless `nonce` is another."""
    request: dict[str, Any] = {"method": "POST", "url": URL, "now": NOW, "jti": b"j" * 16}
    request |= changes
    given = {"use_key": crypto.point_of(key), "nonce": NONCES.at(request["now"]), **request}
    return DPoP(proof=dpop.compose(token=token, **given).sign(key), nonces=nonces)


def make_list(
    *,
    key: crypto.PrivateKey = VERIFIER_KEY,
    kid: str = KID,
    at: Status = Status.VALID,
    entries: int = 4096,
    **changes: Any,
) -> str:
    """A status list by the verifier; `at` is the status of the token."""
    fields = {
        "uri": PLACE.uri, "issued": NOW, "expires": NOW + timedelta(hours=1),
        "ttl": timedelta(seconds=30),
        "statuses": status.pack({PLACE.index: at} if at else {}, entries=entries),
    }  # fmt: skip
    return status.encode(StatusList(**{**fields, **changes}), key=key, kid=kid)


def lists_of(text: str) -> dict[str, StatusList]:
    """What a relying party keeps that has fetched this list."""
    found = status.read(text, KEYS)
    return {found.uri: found}


LISTS = lists_of(make_list())


def lists_at(now: datetime) -> dict[str, StatusList]:
    """What a relying party keeps that has just fetched the list."""
    end = NOW + timedelta(days=9)
    return {uri: replace(found, issued=now, expires=end) for uri, found in LISTS.items()}


DEMANDS = tuple(field.name for field in fields(Requirements))
LEAST: dict[str, Any] = {"audience": AUDIENCE, "minimum": "L2"}
REQUIRED = Requirements(**LEAST)


def accept(token: str = TOKEN, proof: str | DPoP | None = None, **changes: Any) -> Claims:
    """What the relying party says to a request with this token and this proof."""
    request: dict[str, Any] = {
        "keys": KEYS, "method": "POST", "url": URL, "now": NOW, "seen": Seen(),
    }  # fmt: skip
    demands = {name: changes.pop(name) for name in list(changes) if name in DEMANDS}
    given = {**request, **changes}
    given.setdefault("status", lists_at(given["now"]))
    return check(token, proof, **{**LEAST, **demands}, **given)


def reasons(refusal: Any) -> list[str]:
    """The codes of a refusal, Malformed or Refused."""
    return [str(finding.reason) for finding in refusal.findings]


def parts_of(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a JWS, to be changed."""
    header, payload, _ = text.split(".")
    return json.loads(base64url.decode(header)), json.loads(base64url.decode(payload))


def sign_payload(payload: Mapping[str, Any] | bytes, key: crypto.PrivateKey, **header: Any) -> str:
    """A JWS of anything, well signed."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return jws.sign(data, key, header)


def flips(text: str | bytes) -> list[bytes]:
    """Every text that differs from `text` in one bit."""
    data = text.encode() if isinstance(text, str) else text
    return [
        data[:index] + bytes([data[index] ^ 1 << bit]) + data[index + 1 :]
        for index in range(len(data))
        for bit in range(8)
    ]


def truncations(text: str | bytes) -> list[bytes]:
    """Every proper beginning of `text`."""
    data = text.encode() if isinstance(text, str) else text
    return [data[:length] for length in range(len(data))]
