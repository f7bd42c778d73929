"""What the verifier granted in a round, opened by the TPM for processes that are unchanged.

The verifier's word, the process and the TPM have to agree: a grant is genuine, the process is what
the evidence says, and its key opens what is sealed to it.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from attestor.collector import Collected
from attestor.look import Glance
from attestor.looker import Looker
from attestor.lookout import Seen
from attestor.proc import NoLook
from attestor.reasons import Local, refuse
from attestor.roster import Roster
from attestor.subject import Chain, Subject
from attestor.tpm import Tpm, TpmFailed
from attestor.worker import Worker
from credential import Keys, Refused, grant
from credential.reasons import Finding
from credential.reasons import Malformed as MalformedGrant
from evidence.messages import FindingText, Outcome, Result

_SILENT = Finding(reason=str(Local.INTERNAL), what="a refusal without a finding")

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True)
class Grants:
    """Hands out what was granted to the processes of a node."""

    node: str
    tpm: Worker[Tpm]
    looker: Worker[Looker]
    roster: Roster

    async def hand_out(
        self, result: Result, asked: Mapping[bytes, Subject], collected: Collected, keys: Keys
    ) -> None:
        """Tell each process that was asked about its outcome; `keys` are those that sign grants."""
        outcomes = {one.key_name: one for one in result.outcomes}
        for name, subject in asked.items():
            if subject.secrets is None:
                continue
            if name not in collected.seen or name not in outcomes:
                # The verifier has ended what it was not told of.
                refused = refuse(Local.PROCESS_CHANGED, subject.label)
                self.roster.refuse(subject, refused.findings)
                continue
            try:
                granted = self._read(subject, outcomes[name], result.challenge, keys)
                await self._open(subject, granted, collected.seen[name], collected.quoted_at)
            except (Refused, MalformedGrant) as refused:
                log.info("%s: %s", subject.label, refused)
                self.roster.refuse(subject, refused.findings)
            except (NoLook, TpmFailed) as error:
                log.warning("%s: %s", subject.label, error)
                failed = refuse(Local.TPM, subject.label, found=str(error))
                self.roster.refuse_waiting(subject, failed.findings)

    def _read(
        self, subject: Subject, outcome: Outcome, challenge: bytes, keys: Keys
    ) -> grant.Grant:
        """Return a grant that is the verifier's, for this process and the next of its steps."""
        if not outcome.grant:
            raise Refused([_finding(one) for one in outcome.findings] or [_SILENT])
        chain = subject.own_secrets().chain
        return grant.read(
            outcome.grant,
            keys,
            node=self.node,
            key_name=subject.key_name,
            core=subject.core_hash,
            challenge=challenge,
            next_step=chain.step + 1 if chain else 0,
        )

    async def _open(
        self, subject: Subject, granted: grant.Grant, seen: Seen, quoted_at: float
    ) -> None:
        """Open a grant for a process that is still what was judged, and have it known."""
        # One that is known may have changed since: then its glance is not the one that was judged,
        # and before its next proof the verifier judges it again.
        is_first = subject.own_secrets().chain is None
        if is_first and await self._glance(subject) != seen.glance:
            raise refuse(Local.PROCESS_CHANGED, subject.label)
        chain = await self._chain(subject, granted)
        token = grant.open_token(granted, key=chain.key) if granted.ciphertext else ""
        # The process may have ended while the TPM worked: then its keys are gone, and it is out.
        subject.accept(granted, token, chain, quoted_at)
        subject.look, subject.glance = seen.look, seen.glance
        self.roster.accept(subject)

    async def _glance(self, subject: Subject) -> Glance:
        return await self.looker.run(lambda one: one.glance(subject.pins))

    async def _chain(self, subject: Subject, granted: grant.Grant) -> Chain:
        """Return the key that this grant's token is under."""
        own = subject.own_secrets()
        held, key = own.chain, own.process_key
        if held is None:
            assert key is not None
            opened = await self.tpm.run(
                lambda tpm: tpm.activate_process_key(
                    key, granted.id_object, granted.encrypted_secret
                )
            )
            return Chain(granted.step, opened)
        if not granted.ciphertext:
            return held
        later = grant.chain_key(held.key, held_step=held.step, step=granted.step)
        return Chain(granted.step, later)


def _finding(text: FindingText) -> Finding:
    return Finding(reason=text.reason, what=text.what, expected=text.expected, found=text.found)
