"""The proof: a WIMSE workload proof token (WPT), draft-ietf-wimse-wpt-02, for one request.

The attestor makes it, with the process's use key, after looking at the process again.
Header `{"alg": "ES256", "typ": "wpt+jwt"}`; the token's `cnf` says whose signature it must be.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from credential import base64url, jws
from credential.members import Members, numeric_date, to_json
from credential.reasons import Malformed, Reason, Refused
from credential.wit import AUDIENCE, METHOD

HEADER = "Workload-Proof-Token"
TYPE = "wpt+jwt"
VERSION = 1
MOST_BYTES = 8 * 1024
LIFETIME = timedelta(seconds=60)
"""The longest that a proof may live: "minutes or less" in the draft, less here."""
JTI_BYTES = 16

JTI = r"[A-Za-z0-9_-]{22}"
HASH = r"[A-Za-z0-9_-]{43}"
_URL = r"https?://[!-~]{1,2040}"
_HOST = r"[a-z0-9._-]+|\[[0-9a-f:.]+\]"
_PORT = r"[1-9][0-9]{0,4}"
_PATH = r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
"""RFC 3986, section 3.3."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a proof says."""

    target: str
    """Target URI without query and fragment, as `target_of` writes it."""
    audience: str
    """The relying party's name, among the audiences of the token."""
    method: str
    """HTTP method, whose case counts (RFC 9110, section 9.1)."""
    issued: datetime
    """Whole seconds, as is `expires`."""
    expires: datetime
    jti: str
    """16 random bytes, base64url."""
    token_hash: str
    """`wth`: base64url SHA-256 of the token's text."""


def hash_of(token: str) -> str:
    """Return the `wth` of a token: base64url SHA-256 of its text."""
    return base64url.encode(hashlib.sha256(token.encode()).digest())


def target_of(url: str) -> str:
    """Return the one text of a target URI: without query and fragment, scheme and host in lower
    case, no default port, `/` for an empty path. Raise ValueError on what is no such URL.

    The path stays as it is: two paths that some server takes for the same are two targets.

    >>> target_of("HTTPS://Ledger.Example.org:443/post?draft=1")
    'https://ledger.example.org/post'
    """  # noqa: D205  (the rules are the summary)
    if not re.fullmatch(_URL, url, re.IGNORECASE):
        raise ValueError("expected an absolute http or https URL")
    parts = urlsplit(url)
    scheme, authority = parts.scheme.lower(), parts.netloc.lower()
    found = re.fullmatch(rf"({_HOST})(?::({_PORT}))?", authority)
    if found is None or not re.fullmatch(_PATH, parts.path):
        raise ValueError("expected a host, perhaps a port, and a path")
    host, port = found.group(1), found.group(2) or _DEFAULT_PORTS[scheme]
    if int(port) > _MOST_PORT:
        raise ValueError("expected a port up to 65535")
    shown = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{shown}{parts.path or '/'}"


def asked_target(url: str) -> str:
    """Return the `target_of` a URL that a process has asked for; raise Malformed."""
    try:
        return target_of(url)
    except ValueError as error:
        raise Malformed(Reason.PROOF_MALFORMED, str(error)) from error


def read_target(members: Members, name: str) -> str:
    """Return a member of a proof that is a target URI in its one form; raise Malformed."""
    text = members.text(name, _URL)
    if asked_target(text) != text:
        raise Malformed(Reason.PROOF_MALFORMED, f"{name}: not in its one form")
    return text


def compose(  # noqa: PLR0913  (each is something that only the caller knows)
    *, token: str, audience: str, method: str, url: str, now: datetime, jti: bytes
) -> jws.Unsigned:
    """Return what the holder of the use key signs to make this request with `token`, now.

    `jti` is 16 random bytes, never used before. Raise Malformed where `audience`, `method` or
    `url` is not what its name says: they come from the process.
    """
    proof = Proof(
        target=asked_target(url),
        audience=audience,
        method=method,
        issued=now,
        expires=now + LIFETIME,
        jti=base64url.encode(jti),
        token_hash=hash_of(token),
    )
    payload = to_json(_to_json(proof))
    _read_proof(payload)
    return jws.unsigned(payload, {"typ": TYPE})


def read(proof: str, *, use_key: bytes) -> Proof:
    """Return what `proof` says, if the key with the P-256 point `use_key` has signed it.

    Whether it fits a request, and is of now, is for `check` to say.
    """
    unverified = jws.read(
        proof, typ=TYPE, has_kid=False, most_bytes=MOST_BYTES, reason=Reason.PROOF_MALFORMED
    )
    if not unverified.is_signed_by(use_key):
        raise Refused.because(Reason.PROOF_SIGNATURE, "not signed by the token's cnf key")
    return _read_proof(unverified.payload)


def _to_json(proof: Proof) -> dict[str, object]:
    return {
        "aud": proof.target,
        "iat": numeric_date(proof.issued),
        "exp": numeric_date(proof.expires),
        "jti": proof.jti,
        "wth": proof.token_hash,
        "procseal": {"v": VERSION, "audience": proof.audience, "method": proof.method},
    }


def _read_proof(payload: bytes) -> Proof:
    members = Members.parse(payload, Reason.PROOF_MALFORMED)
    procseal = members.child("procseal")
    if procseal.number("v") != VERSION:
        raise Malformed(Reason.PROOF_VERSION, f"expected procseal.v {VERSION}")
    members.exactly(("aud", "iat", "exp", "jti", "wth", "procseal"))
    procseal.exactly(("v", "audience", "method"))
    return Proof(
        target=read_target(members, "aud"),
        audience=procseal.text("audience", AUDIENCE),
        method=procseal.text("method", METHOD),
        issued=members.time("iat"),
        expires=members.time("exp"),
        jti=members.text("jti", JTI),
        token_hash=members.text("wth", HASH),
    )
