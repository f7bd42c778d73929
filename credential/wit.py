"""The token: a WIMSE workload identity token (WIT), draft-ietf-wimse-workload-creds-02.

Header `{"alg": "ES256", "typ": "wit+jwt", "kid"}`; no `aud`, because the proof names the
audience (SPIFFE WIT-SVID forbids one). The member `procseal` says what was proven of the process.
A token is no secret: without a proof by its `cnf` key nobody lets its bearer in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from credential import crypto, jws
from credential.keys import TRUST_DOMAIN, Keys, read_jwk, to_jwk
from credential.members import Members, numeric_date, to_json
from credential.reasons import Malformed, Reason, Refused
from credential.status import Place

HEADER = "Workload-Identity-Token"
TYPE = "wit+jwt"
VERSION = 2
MOST_BYTES = 16 * 1024
MOST_AUDIENCES = 64
MOST_SCOPES = 64
MOST_LABELS = 64
MOST_CONTEXT = 16

Level = Literal["lab", "L1", "L2", "L3", "L4"]
LEVELS: tuple[Level, ...] = ("lab", "L1", "L2", "L3", "L4")
"""What was proven, least first. `lab`: the kernel that booted is in no quoted register."""

ProofKey = Literal["attestor", "tpm", "process"]
PROOF_KEYS: tuple[ProofKey, ...] = ("attestor", "tpm", "process")
"""Who holds the use key, which signs proofs."""

SPIFFE_ID = rf"(?=.{{1,2048}}\Z)spiffe://({TRUST_DOMAIN})(?:/(?!\.\.?(?:/|\Z))[a-zA-Z0-9._-]+)+"
"""SPIFFE-ID, section 2: lower-case trust domain, no empty, `.` or `..` segment, at most 2048."""
AUDIENCE = r"[!-~]{1,2048}"
METHOD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}"
"""A token of RFC 9110, section 5.6.2."""

_URL = r"https?://[!-~]{1,2040}"
_JTI = r"[A-Za-z0-9_-]{16,128}"
DIGEST = r"sha256:[0-9a-f]{64}"
_NODE = r"[a-z0-9.-]{1,63}"
_BOOT = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}"
"""A name of people's or systemd's making: any but control characters and lone surrogates."""
_NAME_OR_NONE = rf"(?:{_NAME})?"
SCOPE = r"[\x21\x23-\x5b\x5d-\x7e]{1,255}"
"""scope-token of RFC 6749, section 3.3."""
LABEL = r"[a-z][a-z0-9_.-]{0,62}"
"""Name of a node's label, or of a member of a context."""
LABEL_VALUE = r"[A-Za-z0-9_.:/-]{1,255}"
CONTEXT_VALUE = r"[ -~]{1,255}"
CONTEXT = rf"{LABEL}={CONTEXT_VALUE}"
JOB = r"[A-Za-z0-9_.:/@-]{1,255}"
GRANT = r"[0-9a-f]{16}"

_CLAIMS = ("iss", "sub", "iat", "exp", "jti", "cnf", "status", "procseal")
_PROCSEAL = (
    "v", "level", "binding", "peer_proof", "proof_key", "executable", "set", "node", "boot",
    "labels", "unit", "user", "audiences", "scopes", "parent", "job", "context", "grant",
    "evidence", "ledger",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Procseal:
    """What was proven of the process, at the moment of the evidence."""

    level: Level
    binding: str
    """How the process came to its attestor: `launched` or `attached`."""
    peer_proof: str
    """How its attestor knows who speaks: `child`, `pidfs`, `pidfd` or `pid`, strongest first."""
    proof_key: ProofKey
    """Who holds the use key. What the process holds itself is the weakest: nobody looks at it again
    before it signs, and it may give the key away."""
    executable: str
    """`sha256:` and the hexadecimal digest of the executable's bytes."""
    set: str
    """Name of the reference set that holds the executable."""
    node: str
    boot: str
    """The node's /proc/sys/kernel/random/boot_id."""
    labels: Mapping[str, str]
    """What the verifier's operators call the node: a zone, a rack."""
    unit: str
    """The systemd unit (last component of the cgroup) that it had to be in; empty where anybody
    with the right user may have started it."""
    user: str
    audiences: tuple[str, ...]
    """Where it may be used."""
    scopes: tuple[str, ...]
    """What it may be used for; the application enforces them."""
    parent: str
    """SPIFFE ID of the process that had it launched for a job; empty where none had."""
    job: str
    """What that process calls the job."""
    context: Mapping[str, str]
    """What the process said that it is for: a prompt session, a ticket. Nobody vouches for it."""
    grant: str
    """Id of the operator's approval that it rests on; empty where none was needed."""
    evidence: str
    """`sha256:` and the digest of the evidence that was judged."""
    ledger: int
    """Number of the decision in the verifier's ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Everything that a token says."""

    issuer: str
    """The verifier's URL: for people and logs; keys are never found by it."""
    id: str
    """The process's SPIFFE ID."""
    issued: datetime
    """Whole seconds, as is `expires`."""
    expires: datetime
    jti: str
    use_key: bytes
    """Public half of the key that signs its proofs: P-256, uncompressed point, 65 bytes."""
    status: Place
    """Where the verifier says what has become of the token."""
    procseal: Procseal

    @property
    def trust_domain(self) -> str:
        """The trust domain of the SPIFFE ID."""
        return self.id.removeprefix("spiffe://").partition("/")[0]


def encode(claims: Claims, *, key: crypto.PrivateKey, kid: str) -> str:
    """Return the token that says `claims`, signed; raise Malformed if it could not be read."""
    payload = to_json(as_json(claims))
    _read_claims(payload)
    token = jws.sign(payload, key, {"typ": TYPE, "kid": kid})
    _read_form(token)
    return token


def read(token: str, keys: Keys) -> Claims:
    """Return what `token` says, if one of `keys` has signed it and speaks for its trust domain.

    It does not say that the token is valid now, nor that its bearer is the process: `check` does.
    Nothing in the payload is parsed before the signature holds.
    """
    unverified = _read_form(token)
    if unverified.kid not in keys.points:
        raise Refused.because(Reason.TOKEN_KEY_UNKNOWN, "kid", found=unverified.kid)
    if not unverified.is_signed_by(keys.points[unverified.kid]):
        raise Refused.because(Reason.TOKEN_SIGNATURE, f"key {unverified.kid}")
    claims = _read_claims(unverified.payload)
    if claims.trust_domain != keys.trust_domain:
        expected = f"spiffe://{keys.trust_domain}/..."
        raise Refused.because(
            Reason.TOKEN_TRUST_DOMAIN, "SPIFFE ID", expected=expected, found=claims.id
        )
    return claims


def read_unverified(token: str) -> Claims:
    """Return what `token` says, whoever made it.

    For an attestor, which has it from a signed and sealed grant: it needs the expiry and the
    audiences and trusts no token with anything.
    """
    return _read_claims(_read_form(token).payload)


def _read_form(token: str) -> jws.Unverified:
    return jws.read(
        token, typ=TYPE, has_kid=True, most_bytes=MOST_BYTES, reason=Reason.TOKEN_MALFORMED
    )


def as_json(claims: Claims) -> dict[str, object]:
    """Return what a token of these claims has for its payload."""
    procseal = {name: getattr(claims.procseal, name) for name in _PROCSEAL if name != "v"}
    return {
        "iss": claims.issuer,
        "sub": claims.id,
        "iat": numeric_date(claims.issued),
        "exp": numeric_date(claims.expires),
        "jti": claims.jti,
        "cnf": {"jwk": to_jwk(claims.use_key)},
        "status": claims.status.to_json(),
        "procseal": {"v": VERSION, **procseal},
    }


def _read_claims(payload: bytes) -> Claims:
    members = Members.parse(payload, Reason.TOKEN_MALFORMED).exactly(_CLAIMS)
    claims = Claims(
        procseal=_read_procseal(members.child("procseal")),
        issuer=members.text("iss", _URL),
        id=members.text("sub", SPIFFE_ID),
        issued=members.time("iat"),
        expires=members.time("exp"),
        jti=members.text("jti", _JTI),
        use_key=read_jwk(members.child("cnf").exactly(("jwk",)).child("jwk")),
        status=Place.read(members.child("status")),
    )
    if claims.expires <= claims.issued:
        raise Malformed(Reason.TOKEN_MALFORMED, "expected exp to be after iat")
    return claims


def _read_procseal(members: Members) -> Procseal:
    if members.number("v") != VERSION:
        raise Malformed(Reason.TOKEN_VERSION, f"expected procseal.v {VERSION}")
    members.exactly(_PROCSEAL)
    return Procseal(
        level=cast("Level", members.text("level", "|".join(LEVELS))),
        binding=members.text("binding", "launched|attached"),
        peer_proof=members.text("peer_proof", "child|pidfs|pidfd|pid"),
        proof_key=cast("ProofKey", members.text("proof_key", "|".join(PROOF_KEYS))),
        executable=members.text("executable", DIGEST),
        set=members.text("set", _NAME),
        node=members.text("node", _NODE),
        boot=members.text("boot", _BOOT),
        labels=members.child("labels").map(LABEL, LABEL_VALUE, most=MOST_LABELS),
        unit=members.text("unit", _NAME_OR_NONE),
        user=members.text("user", _NAME_OR_NONE),
        audiences=members.texts("audiences", AUDIENCE, most=MOST_AUDIENCES),
        scopes=members.texts("scopes", SCOPE, most=MOST_SCOPES),
        parent=members.text("parent", rf"(?:{SPIFFE_ID})?"),
        job=members.text("job", rf"(?:{JOB})?"),
        context=members.child("context").map(LABEL, CONTEXT_VALUE, most=MOST_CONTEXT),
        grant=members.text("grant", rf"(?:{GRANT})?"),
        evidence=members.text("evidence", DIGEST),
        ledger=members.number("ledger"),
    )
