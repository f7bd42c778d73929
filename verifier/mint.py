"""From an accepted process to its token and grant. Chance and time are arguments.

`mint` takes an `Accepted`, which only an appraisal makes: nothing else can be given a credential.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import cast

from credential import crypto, grant, wit
from credential.keys import thumbprint
from credential.status import Place
from evidence import cbor, tpm
from verifier.crypto.activation import ENTROPY_BYTES, make_credential
from verifier.keys import Keys
from verifier.verdict import Accepted

JTI_BYTES = 16
"""Written in hexadecimal: an operator gives it to a command, where nothing may begin with `-`."""

Random = Callable[[int], bytes]
"""Return so many random bytes: `secrets.token_bytes`, but in tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is remembered of the token that a process holds."""

    chain_key: bytes = field(repr=False)
    """What it is sealed under, 32 bytes: secret."""
    step: int
    jti: str
    issued: datetime
    expires: datetime
    policy_version: int
    """Of the policy that allowed what it says."""
    level: str
    """What it says."""
    says: bytes
    """`saying` of it; empty where another one is wanted, whatever that will say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A token's place among all tokens: which status list, and where in it."""

    number: int
    index: int

    def place(self, issuer: str) -> Place:
        """Return the place as the token names it."""
        return Place(uri=status_list_uri(issuer, self.number), index=self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What all credentials of one decision have in common."""

    issuer: str
    ek_public: bytes
    """TPMT_PUBLIC of the node's EK."""
    challenge: bytes
    """SHA-256 of the challenge."""
    evidence: bytes
    """Digest of the case that was judged."""
    ledger: int
    """Number of the decision's row."""
    policy_version: int
    now: datetime
    until: datetime | None = None
    """When the token of the process's parent ends, where it has one: its own ends no later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """What one process is sent, and what is remembered of it."""

    grant: str
    token: Token
    slot: Slot | None
    """Of a new token; None where the lease alone is new."""


def mint(  # noqa: PLR0913 - each is something that only the caller has
    accepted: Accepted,
    held: Token | None,
    *,
    occasion: Occasion,
    keys: Keys,
    random: Random,
    new_slot: Callable[[], Slot],
) -> Minted:
    """Return the grant for a process that holds the token `held`, None for none.

    A process that came with its key is sealed to, from step 0. One that is known gets a token
    under the next key of its chain if less than half of its token's life is left and another one
    would live longer, or if it would say something else; otherwise its lease alone is new.
    """
    if accepted.is_new or held is None:
        token = _new_token(accepted, occasion, random)
    elif _is_due(held, accepted, occasion):
        chain = replace(held, chain_key=crypto.next_key(held.chain_key), step=held.step + 1)
        token = _renewed(chain, accepted, occasion, random)
    else:
        leased = _lease(accepted, held, occasion)
        return Minted(grant=_signed(leased, keys), token=held, slot=None)
    slot = new_slot()
    claims = claims_of(accepted, token, occasion, slot)
    sealed = _seal(
        accepted,
        token,
        wit.encode(claims, key=keys.wit.private, kid=keys.wit.kid),
        occasion,
        random,
    )
    return Minted(grant=_signed(sealed, keys), token=token, slot=slot)


def _is_due(held: Token, accepted: Accepted, occasion: Occasion) -> bool:
    half = (held.expires - held.issued) / 2
    said = held.policy_version, held.level, held.says
    says = occasion.policy_version, accepted.level, saying(accepted)
    is_short = held.expires - occasion.now < half and held.expires < _expiry(accepted, occasion)
    return is_short or said != says


def saying(accepted: Accepted) -> bytes:
    """Return the digest of what can become another thing while the process and its policy stay."""
    granted = accepted.granted
    told = [granted.audiences, granted.scopes, granted.approval, accepted.labels]
    return sha256(cbor.encode(told)).digest()


def _expiry(accepted: Accepted, occasion: Occasion) -> datetime:
    """Return when a token of now ends: at the latest with what it rests on."""
    end = occasion.now + accepted.workload.lifetime
    return min(end, accepted.granted.until or end, occasion.until or end)


def _new_token(accepted: Accepted, occasion: Occasion, random: Random) -> Token:
    chain_key = random(crypto.KEY_BYTES)
    never = datetime.fromtimestamp(0, UTC)
    empty = Token(
        chain_key=chain_key,
        step=0,
        jti="",
        issued=never,
        expires=never,
        policy_version=0,
        level="",
        says=b"",
    )
    return _renewed(empty, accepted, occasion, random)


def _renewed(token: Token, accepted: Accepted, occasion: Occasion, random: Random) -> Token:
    return replace(
        token,
        jti=random(JTI_BYTES).hex(),
        issued=occasion.now,
        expires=_expiry(accepted, occasion),
        policy_version=occasion.policy_version,
        level=accepted.level,
        says=saying(accepted),
    )


def _seal(
    accepted: Accepted, token: Token, text: str, occasion: Occasion, random: Random
) -> grant.Grant:
    leased = _lease(accepted, token, occasion)
    if token.step == 0:
        id_object, encrypted_secret = make_credential(
            tpm.Public.decode(occasion.ek_public),
            name=accepted.key_name,
            secret=token.chain_key,
            entropy=random(ENTROPY_BYTES),
        )
        leased = replace(leased, id_object=id_object, encrypted_secret=encrypted_secret)
    nonce = random(crypto.NONCE_BYTES)
    return grant.seal_token(leased, text, key=token.chain_key, nonce=nonce)


def _lease(accepted: Accepted, token: Token, occasion: Occasion) -> grant.Grant:
    """Return the grant without a token; the lease never outlives the credential."""
    lease = min(accepted.workload.lease, token.expires - occasion.now)
    return grant.Grant(
        node=accepted.core.node,
        key_name=accepted.key_name,
        core=accepted.core_digest,
        challenge=occasion.challenge,
        lease_seconds=int(lease.total_seconds()),
        step=token.step,
    )


def _signed(unsigned: grant.Grant, keys: Keys) -> str:
    return grant.sign(unsigned, key=keys.grant.private, kid=keys.grant.kid)


def claims_of(accepted: Accepted, token: Token, occasion: Occasion, slot: Slot) -> wit.Claims:
    """Return what the token says (docs/protocol.md, section 3)."""
    core, workload, granted = accepted.core, accepted.workload, accepted.granted
    procseal = wit.Procseal(
        level=cast("wit.Level", accepted.level),
        binding=core.binding,
        peer_proof=core.peer_proof,
        proof_key=cast("wit.ProofKey", core.proof_key),
        executable=f"sha256:{core.executable.hex()}",
        set=workload.executable_set,
        node=core.node,
        boot=core.boot,
        labels=dict(accepted.labels),
        unit=workload.unit,
        user=workload.user,
        audiences=granted.audiences,
        scopes=granted.scopes,
        parent=core.origin.parent,
        job=core.origin.job,
        context=dict(one.split("=", 1) for one in core.purpose.context),
        grant=granted.approval,
        evidence=f"sha256:{occasion.evidence.hex()}",
        ledger=occasion.ledger,
    )
    return wit.Claims(
        issuer=occasion.issuer,
        id=workload.id,
        issued=token.issued,
        expires=token.expires,
        jti=token.jti,
        use_key=core.use_key,
        status=slot.place(occasion.issuer),
        procseal=procseal,
    )


def status_list_uri(issuer: str, number: int) -> str:
    """Return where the verifier serves this status list, which is also its name."""
    return f"{issuer.rstrip('/')}/v1/status/{number}"


def thumbprint_of(accepted: Accepted) -> str:
    """Return the RFC 7638 thumbprint of the use key."""
    return thumbprint(accepted.core.use_key)
