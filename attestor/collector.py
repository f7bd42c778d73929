"""The evidence of one round: what is seen, the quote bound to it, the list, what is seen again.

    look at each process ──▶ body ─┐
    the verifier's challenge ──────┴─▶ quote ──▶ list ──▶ look again: whoever changed is withdrawn

The numbers are those of `attestor.rounds`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attestor.boot_log import read_boot_log
from attestor.lookout import Lookout, Seen, has_company, is_seen_unchanged
from attestor.machine import Machine
from attestor.measurement_list import MeasurementList
from attestor.posture import read_posture
from attestor.presences import join
from attestor.quote import Quoted, take_quote
from attestor.roster import Roster
from attestor.subject import Subject
from attestor.tpm import Tpm
from attestor.worker import Worker
from evidence.canary import CanaryReport
from evidence.messages import (
    Body,
    Challenge,
    Evidence,
    KnownProcess,
    NewProcess,
    quote_binding,
)
from evidence.posture import Presence
from evidence.process import Look

LOOK_TRIES = 3
"""A program that maps a library during a round is seen again rather than withdrawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a round's evidence has to be about."""

    challenge: Challenge
    subjects: Mapping[bytes, Subject]
    """By the Names of their keys."""
    canaries: tuple[CanaryReport, ...]
    """What became of those that the challenge wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What was found in one try."""

    seen: Mapping[bytes, Seen]
    """Of each process that could be seen, by the Name of its key."""
    present: tuple[Presence, ...]
    """Where processes of their uids are, or have been in this round."""
    body: Body
    quoted: Quoted
    records: bytes
    """Of the measurement list."""
    withdrawn: tuple[bytes, ...]
    """Who was seen, and had changed when it was looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Evidence, and what is kept of it until the verifier has judged it."""

    evidence: Evidence
    seen: Mapping[bytes, Seen]
    """What the evidence says of each process, by the Name of its key."""
    quoted_at: float
    """Seconds since boot, before the TPM was asked."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Collects the evidence of this machine."""

    machine: Machine
    tpm: Worker[Tpm]
    measurement_list: Worker[MeasurementList]
    lookout: Lookout
    roster: Roster
    """Says who is known already, and who is new to the verifier."""

    async def collect(self, asked: Asked) -> Collected:
        """Return evidence in answer to a challenge, after more than one try where somebody changes.

        Raises TpmFailed, ListUnreadable, or Malformed where the TPM or the list is not understood.
        """
        attempt = await self._try(asked, ())
        for _ in range(LOOK_TRIES - 1):
            if not attempt.withdrawn:
                break
            # What an earlier try of this round has seen counts too, so that tries come to an end.
            attempt = await self._try(asked, attempt.present)
        challenge, quoted = asked.challenge, attempt.quoted
        evidence = Evidence(
            node=self.machine.node,
            challenge=challenge.digest(),
            body=attempt.body.encode(),
            quote=quoted.signed.attest,
            signature=quoted.signed.signature,
            registers=quoted.registers,
            records=attempt.records,
            withdrawn=attempt.withdrawn,
            boot_log=read_boot_log(self.machine.boot_log) if challenge.wants_boot_log else b"",
        )
        return Collected(evidence=evidence, seen=attempt.seen, quoted_at=quoted.when)

    async def _try(self, asked: Asked, earlier: tuple[Presence, ...]) -> Attempt:
        subjects = asked.subjects
        # (2) A look at each process, and where the others of its user are.
        present = join(earlier, await self.lookout.presences(subjects.values()))
        seen = {
            name: one
            for name, one in (await self.lookout.look_at(subjects)).items()
            if subjects[name].secrets is not None  # it may have ended since its look
        }
        # (3) All that is said of them.
        body = self._body(asked, seen, present)
        # (4) A quote that is bound to it, and to the challenge.
        quoted = await self._quote(asked.challenge, body)
        # (5) The list, which now has at least what the quote covers.
        records = await self._records_from(asked.challenge.first_record)
        # (6) Another look: what was said of them held all the while, or they are withdrawn.
        again = await self.lookout.look_at({name: subjects[name] for name in seen})
        later = await self.lookout.presences(subjects.values())
        withdrawn = tuple(
            name
            for name, one in seen.items()
            if not is_seen_unchanged(name, seen, again) or has_company(one.look, present, later)
        )
        return Attempt(
            seen=seen,
            present=join(present, later),
            body=body,
            quoted=quoted,
            records=records,
            withdrawn=withdrawn,
        )

    def _body(
        self, asked: Asked, seen: Mapping[bytes, Seen], present: tuple[Presence, ...]
    ) -> Body:
        known = self.roster.known
        return Body(
            boot=self.machine.boot,
            kernel=self.machine.kernel,
            instances=self.machine.instance.history,
            hand_overs=self.machine.instance.hand_overs,
            canaries=asked.canaries,
            posture=read_posture(),
            presences=present,
            new=tuple(
                _new_process(asked.subjects[name], one.look)
                for name, one in seen.items()
                if name not in known
            ),
            known=tuple(
                KnownProcess(key_name=name, look=one.look)
                for name, one in seen.items()
                if name in known
            ),
        )

    async def _quote(self, challenge: Challenge, body: Body) -> Quoted:
        binding = quote_binding(challenge.trust_domain, challenge.digest(), body.digest())
        return await self.tpm.run(lambda one: take_quote(one, binding))

    async def _records_from(self, first: int) -> bytes:
        return await self.measurement_list.run(lambda one: one.records_from(first))


def _new_process(subject: Subject, look: Look) -> NewProcess:
    """Return what the verifier is told of a process once: its record, and its key."""
    key = subject.own_secrets().process_key
    assert key is not None
    return NewProcess(
        core=subject.core.encode(),
        look=look,
        public=key.public,
        creation_data=key.creation_data,
        certification=key.certification,
        signature=key.signature,
        modules=subject.modules,
    )
