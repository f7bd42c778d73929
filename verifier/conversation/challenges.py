"""Challenges: each is of one key's, is answered once, and says what evidence has to begin with."""

from datetime import datetime
from hashlib import sha256

from evidence.canary import Place
from evidence.messages import Challenge, ChallengeRequest, Evidence, SignedMessage
from verifier.canary import choose_places, remember_asked
from verifier.case import Case
from verifier.conversation.standing import demand_enrolled
from verifier.instance import verify_signed
from verifier.policy import Policy
from verifier.reasons import Reason, reject
from verifier.replay import first_record_wanted
from verifier.rows import ChallengeRow, NodeRow
from verifier.service import Service
from verifier.store import Transaction

NONCE_BYTES = 32
MOST_NEWCOMERS = 4096
"""Challenges that a node's name has outstanding, but for the accepted instance's: anybody can ask
for one, and none displaces another until there are so many."""


def make_challenge(service: Service, message: SignedMessage) -> Challenge:
    """Return a fresh challenge in the place of the one that the asker has, if any.

    Whoever asks displaces nobody else's: a node that has rebooted is as unknown as a stranger.
    """
    signed = verify_signed(message)
    request = ChallengeRequest.decode(signed.payload)
    with service.reading() as reading:  # strangers do not make anybody wait who writes
        demand_enrolled(reading, request.node)
    with service.transaction() as transaction:
        node = demand_enrolled(transaction, request.node)
        policy = service.policy(transaction).policy
        challenge = _compose(service, node, signed.signer, request.places, policy)
        _keep(transaction, node, signed.signer, challenge)
    return challenge


def _compose(
    service: Service, node: NodeRow, signer: bytes, places: tuple[Place, ...], policy: Policy
) -> Challenge:
    checkpoint = node.checkpoint_value
    first = first_record_wanted(node.value(), checkpoint, signer=signer, policy=policy)
    return Challenge(
        verifier=service.config.issuer,
        trust_domain=service.config.trust_domain,
        node=node.name,
        nonce=service.random(NONCE_BYTES),
        expires=int((service.now() + service.config.challenge_lifetime).timestamp()),
        first_record=first,
        wants_boot_log=first == 0,
        canaries=_canaries(service, node, signer, places),
    )


def _canaries(
    service: Service, node: NodeRow, signer: bytes, places: tuple[Place, ...]
) -> tuple[Place, ...]:
    """Return where canaries are wanted: strangers are asked for none."""
    if signer != node.instance:
        return ()
    every = int(service.config.canary_every.total_seconds())
    now = int(service.now().timestamp())
    return choose_places(places, node.canary_values, now=now, every=every)


def _keep(transaction: Transaction, node: NodeRow, signer: bytes, challenge: Challenge) -> None:
    """Have the challenge, and what it asks for, wait for this key's answer."""
    node.canary_values = remember_asked(
        node.canary_values, nonce=challenge.nonce, places=challenge.canaries, now=transaction.now
    )
    transaction.trim_challenges(node.name, instance=node.instance, most=MOST_NEWCOMERS - 1)
    transaction.add(
        ChallengeRow(
            node=node.name, signer=signer, challenge=challenge.encode(), expires=challenge.expires
        )
    )


def spend_challenge(transaction: Transaction, evidence: Evidence, signer: bytes) -> Challenge:
    """Return the challenge that this key answers; it can never be answered again."""
    node = demand_enrolled(transaction, evidence.node)
    found = transaction.challenge(node.name, signer)
    if found is None or sha256(found.challenge).digest() != evidence.challenge:
        expected = "the digest of the challenge that waits for this key's answer"
        raise reject(Reason.CHALLENGE_UNKNOWN, node.name, expected=expected)
    transaction.remove(found)
    return Challenge.decode(found.challenge)


def demand_current(case: Case, signer: bytes, *, now: datetime) -> None:
    """Raise Rejected if the time of the case's challenge is over, or another record is wanted."""
    challenge, name = case.challenge, case.node.name
    if challenge.expires < now.timestamp():
        raise reject(Reason.CHALLENGE_EXPIRED, name)
    wanted = first_record_wanted(case.node, case.checkpoint, signer=signer, policy=case.policy)
    if challenge.first_record != wanted:
        found, expected = f"from record {challenge.first_record}", f"from record {wanted}"
        raise reject(Reason.CHALLENGE_UNKNOWN, name, expected=expected, found=found)
