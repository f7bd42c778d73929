"""Rounds of evidence: each has the node and any number of processes on it judged, at one quote.

    1. a challenge, and the canaries  5. the list, from the record that the challenge names
       that it wants                  6. a second look: whoever changed is withdrawn
    2. a look at each process         7. the verifier's result
    3. the body                       8. grants: genuine, process unchanged, opened by the TPM
    4. the quote, bound to both

At most one round is going on; whoever asks meanwhile is in the next one.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from attestor.canary import Canaries
from attestor.client import Answer, Unreachable, Verifier
from attestor.collector import Asked, Collector
from attestor.grants import Grants
from attestor.machine import Machine
from attestor.measurement_list import ListUnreadable
from attestor.pauses import Pauses
from attestor.reasons import Local, refuse
from attestor.roster import Roster
from attestor.subject import Subject
from attestor.tpm import Tpm, TpmFailed
from attestor.worker import Worker
from credential import Keys, Refused
from credential.reasons import Finding
from evidence import Malformed
from evidence.canary import MOST_CANARIES, CanaryReport, Place
from evidence.messages import Challenge, ChallengeRequest, Evidence, Result, Wanted, WantedAnswer
from evidence.shapes import Message

NODE_UNKNOWN = "node.unknown"
CHALLENGE = "challenge."
"""Reasons of the verifier's that say nothing about trust."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries to reach the verifier, where the interval is not longer anyway."""
READY_SECONDS = 30
"""How long a request waits for the verifier's first word about the node."""

log = logging.getLogger("attestor")


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Begins a round at every interval, and at once when somebody waits for one."""

    machine: Machine
    verifier: Verifier
    tpm: Worker[Tpm]
    roster: Roster
    collector: Collector
    grants: Grants
    interval_seconds: float
    canaries: Canaries
    on_canaries: Callable[[int], None]
    """Told how many were let loose."""
    enrol: Callable[[], Awaitable[None]]
    """Called where the verifier does not know the node."""
    count: int = 0
    """How many there have been."""
    due: float = 0.0
    """When the next one begins at the latest, on the monotonic clock."""
    findings: tuple[Finding, ...] = ()
    """Why the node was last refused; empty when it was accepted."""
    between: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever holds it keeps the next round from beginning."""
    _refreshes: "list[asyncio.Future[None]]" = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the node was accepted or refused."""
    _keys: Keys | None = None
    """Those that sign grants."""

    @property
    def is_accepted(self) -> bool:
        """Whether the node's last evidence was accepted."""
        return self._ready.is_set() and not self.findings

    # For conversations

    async def prepare(self, subject: Subject) -> None:
        """Have the TPM make a process's key, once the verifier has said that it is wanted."""
        await self._until_ready()
        core = Wanted(node=self.machine.node, core=subject.core.encode())
        answer = await self._ask("/v1/wanted", core, WantedAnswer)
        subject.needs_canary = answer.wants_canary
        may_sign = subject.core.proof_key == "tpm"
        subject.take_key(
            await self.tpm.run(
                lambda tpm: tpm.create_process_key(subject.core_hash, may_sign=may_sign)
            )
        )

    async def judge(self, subject: Subject) -> None:
        """Return when a prepared process has its credential; raise Refused when it gets none."""
        with self.roster.waiting(subject) as outcome:
            self._wake.set()
            await outcome

    async def refresh(self) -> None:
        """Return after a round that began later than this call."""
        done = asyncio.get_running_loop().create_future()
        self._refreshes.append(done)
        self._wake.set()
        await done

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready.wait()
        except TimeoutError as error:
            raise refuse(Local.NOT_READY, self.machine.node) from error
        if self.findings:
            raise Refused(self.findings)

    # One after the other

    async def run(self) -> None:
        """Have rounds for as long as the attestor runs."""
        pauses = Pauses(
            first_seconds=FIRST_PAUSE_SECONDS,
            longest_seconds=max(self.interval_seconds, LONGEST_PAUSE_SECONDS),
        )
        while True:
            # From start to start: an interval is what the operator is promised.
            self.due = time.monotonic() + self.interval_seconds
            delay = 0.0
            try:
                async with self.between:
                    await self._round()
                pauses.after_success()
            except Unreachable as error:
                delay = pauses.after_failure()
                log.warning("%s; trying again in %.0f s", error, delay)
                self.due = time.monotonic() + delay
            except (TpmFailed, ListUnreadable, Malformed, OSError) as error:
                log.error("no evidence: %s: %s", type(error).__name__, error)  # noqa: TRY400
                self._refuse_node([Finding(reason=str(Local.TPM), what=str(error))])
                delay = self.interval_seconds
            except Exception as error:
                log.exception("the round failed")
                self._refuse_node([Finding(reason=str(Local.INTERNAL), what=type(error).__name__)])
                delay = self.interval_seconds
            await asyncio.sleep(delay)
            if not (self.roster.has_waiting or self._refreshes):
                await self._pause(self.due - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _round(self) -> None:
        """Have the node and every process on it judged once."""
        refreshes, self._refreshes = self._refreshes, []
        try:
            await self._judge_all(self.roster.asked())
        except Refused as refused:
            await self._take_refusal(refused)
        finally:
            self.count += 1
            for done in refreshes:
                if not done.done():
                    done.set_result(None)

    async def _judge_all(self, subjects: Mapping[bytes, Subject]) -> None:
        places = {one.place: one for one in subjects.values() if one.needs_canary}
        keys = await self._grant_keys()
        # (1) The nonce, which everything that follows is bound to.
        challenge = await self._challenge(tuple(places), keys.trust_domain)
        canaries = await self._let_loose(challenge, places)
        # (2) to (6)
        asked = Asked(challenge=challenge, subjects=subjects, canaries=canaries)
        collected = await self.collector.collect(asked)
        # (7) The verifier's word, first about the node.
        result = await self._result(collected.evidence)
        self.findings = ()
        self._ready.set()
        # (8) Then about each process.
        await self.grants.hand_out(result, subjects, collected, keys)

    async def _grant_keys(self) -> Keys:
        if self._keys is None:
            _, self._keys = await self.verifier.grant_keys()
        return self._keys

    async def _challenge(self, places: tuple[Place, ...], trust_domain: str) -> Challenge:
        request = ChallengeRequest(node=self.machine.node, places=places)
        challenge = await self._ask("/v1/challenge", request, Challenge)
        if challenge.node != self.machine.node:
            raise Unreachable("the verifier's challenge is for another node")
        if challenge.trust_domain != trust_domain:
            raise Unreachable("the verifier's challenge is of another trust domain")
        if len(challenge.canaries) > MOST_CANARIES or not {*challenge.canaries} <= {*places}:
            raise Unreachable("the verifier wants canaries where no process of this node is")
        return challenge

    async def _let_loose(
        self, challenge: Challenge, places: Mapping[Place, Subject]
    ) -> tuple[CanaryReport, ...]:
        """Use the canaries that the challenge wants; say what became of them."""
        self.on_canaries(len(challenge.canaries))
        failures = await asyncio.gather(
            *(
                asyncio.to_thread(
                    self.canaries.let_loose, challenge.nonce, one, places[one].look.gids[1]
                )
                for one in challenge.canaries
            )
        )
        reports = tuple(
            CanaryReport(place=place, failure=failure)
            for place, failure in zip(challenge.canaries, failures, strict=True)
        )
        for one in reports:
            log.info("canary for %s: %s", one.place.label, one.failure or "used")
        return reports

    async def _result(self, evidence: Evidence) -> Result:
        result = await self._ask("/v1/evidence", evidence, Result)
        if result.challenge != evidence.challenge:
            raise Unreachable("the verifier's result is of another challenge")
        return result

    async def _take_refusal(self, refused: Refused) -> None:
        codes = {str(finding.reason) for finding in refused.findings}
        log.warning("the verifier refused the node: %s", refused)
        if codes == {NODE_UNKNOWN}:
            self.roster.suspend_all(refused.findings)  # an operator has removed the node
            await self.enrol()
            raise Unreachable("the node has just enrolled")
        if all(code.startswith(CHALLENGE) for code in codes):
            raise Unreachable("the challenge did not last")
        self._refuse_node(refused.findings)

    def _refuse_node(self, findings: Sequence[Finding]) -> None:
        """Sign nothing any more: the node is refused, and with it every process on it."""
        self.findings = tuple(findings)
        self._ready.set()
        self.roster.refuse_all(self.findings)

    async def _ask(self, route: str, message: Message, answer: type[Answer]) -> Answer:
        return await self.verifier.ask(route, self.machine.instance.sign(message), answer)
