"""One round of evidence for any number of processes: looks, one quote, the list, looks again.

    1. a challenge, and the canaries  5. the list, from the record that the challenge names
       that it wants                  6. a second look: whoever changed is withdrawn
    2. a look at each process         7. the verifier's result
    3. the body                       8. grants: genuine, process unchanged, opened by the TPM
    4. the quote, bound to both

At most one round is going on; whoever asks meanwhile is in the next one.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from attestor.canary import Canaries
from attestor.client import Answer, Unreachable, Verifier
from attestor.instance import Instance
from attestor.look import Glance
from attestor.looker import Looker
from attestor.measurement_list import ListUnreadable, MeasurementList
from attestor.pauses import Pauses
from attestor.posture import read_posture
from attestor.presences import UNSEEN, is_alone, join
from attestor.proc import Executed, NoLook, TooSlow
from attestor.reasons import Local, refuse
from attestor.subject import (
    CHANGED,
    EXECUTED,
    Chain,
    Subject,
    boot_seconds,
    is_same_process,
    is_unchanged,
)
from attestor.tpm import Signed, Tpm, TpmFailed
from attestor.watch import OnEnd
from attestor.worker import Worker
from credential import Keys, Refused, grant
from credential.reasons import Finding
from credential.reasons import Malformed as MalformedGrant
from evidence import Malformed, tpm
from evidence.canary import MOST_CANARIES, CanaryReport, Place
from evidence.event_log import MOST_LOG_BYTES
from evidence.messages import (
    Body,
    Challenge,
    ChallengeRequest,
    Evidence,
    FindingText,
    KnownProcess,
    NewProcess,
    Outcome,
    Result,
    Wanted,
    WantedAnswer,
    quote_binding,
)
from evidence.posture import Presence
from evidence.process import Look
from evidence.shapes import Message

MOST_NEW = 64
"""New processes in one round; the others are in the next."""
QUOTE_TRIES = 10
"""A register that changes between quote and reading makes the values useless."""
LOOK_TRIES = 3
"""A program that maps a library during a round is seen again rather than withdrawn."""
NODE_UNKNOWN = "node.unknown"
CHALLENGE = "challenge."
"""Reasons of the verifier's that say nothing about trust."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries to reach the verifier, where the interval is not longer anyway."""
READY_SECONDS = 30
"""How long a request waits for the verifier's first word about the node."""

_SILENT = Finding(reason=str(Local.INTERNAL), what="a refusal without a finding")

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What stays the same for this boot and this start."""

    node: str
    boot: str
    kernel: str
    boot_log: str
    """Path of the TCG event log."""
    instance: Instance


@dataclass(frozen=True, slots=True)
class Seen:
    """A look, and the glance that belongs to it."""

    look: Look
    glance: Glance


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote and the register values that it covers."""

    signed: Signed
    registers: tuple[bytes, ...]
    when: float
    """Seconds since boot, before the TPM was asked."""


@dataclass(slots=True)
class Waiting:
    """A process that hears of its outcome through a future."""

    subject: Subject
    outcome: "asyncio.Future[None]"


@dataclass(slots=True)
class Collector:
    """Collects evidence in rounds and hands out what the verifier granted."""

    machine: Machine
    verifier: Verifier
    tpm: Worker[Tpm]
    looker: Worker[Looker]
    measurement_list: Worker[MeasurementList]
    interval_seconds: float
    canaries: Canaries
    on_canaries: Callable[[int], None]
    """Told how many were let loose."""
    enrol: Callable[[], Awaitable[None]]
    """Called where the verifier does not know the node."""
    on_end: OnEnd
    """Called where a process turns out to be no longer what it was."""
    known: dict[bytes, Subject] = field(default_factory=dict)
    """Accepted processes by the Name of their key."""
    rounds: int = 0
    due: float = 0.0
    """When the next round begins at the latest, on the monotonic clock."""
    findings: tuple[Finding, ...] = ()
    """Why the node was last refused; empty when it was accepted."""
    between_rounds: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever holds it keeps the next round from beginning."""
    _waiting: dict[bytes, Waiting] = field(default_factory=dict)
    _refreshes: "list[asyncio.Future[None]]" = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the node was accepted or refused."""
    _keys: Keys | None = None

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
        waiting = Waiting(subject, asyncio.get_running_loop().create_future())
        self._waiting[subject.key_name] = waiting
        self._wake.set()
        try:
            await waiting.outcome
        finally:
            self._waiting.pop(subject.key_name, None)

    async def refresh(self) -> None:
        """Return after a round that began later than this call."""
        done = asyncio.get_running_loop().create_future()
        self._refreshes.append(done)
        self._wake.set()
        await done

    def drop(self, subject: Subject) -> bool:
        """Leave a process out from now on; say whether the verifier had accepted it."""
        waiting = self._waiting.pop(subject.key_name, None)
        if waiting is not None and not waiting.outcome.done():
            waiting.outcome.set_exception(Refused(subject.findings))
        return self.known.pop(subject.key_name, None) is not None

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready.wait()
        except TimeoutError as error:
            raise refuse(Local.NOT_READY, self.machine.node) from error
        if self.findings:
            raise Refused(self.findings)

    # Rounds

    async def run(self) -> None:
        """Start a round at every interval, and at once when somebody waits for one."""
        pauses = Pauses(
            first_seconds=FIRST_PAUSE_SECONDS,
            longest_seconds=max(self.interval_seconds, LONGEST_PAUSE_SECONDS),
        )
        while True:
            # From start to start: an interval is what the operator is promised.
            self.due = time.monotonic() + self.interval_seconds
            delay = 0.0
            try:
                async with self.between_rounds:
                    await self.round()
                pauses.after_success()
            except Unreachable as error:
                delay = pauses.after_failure()
                log.warning("%s; trying again in %.0f s", error, delay)
                self.due = time.monotonic() + delay
            except (TpmFailed, ListUnreadable, Malformed, OSError) as error:
                log.error("no evidence: %s: %s", type(error).__name__, error)  # noqa: TRY400
                self._refuse_all([Finding(reason=str(Local.TPM), what=str(error))])
                delay = self.interval_seconds
            except Exception as error:
                log.exception("the round failed")
                self._refuse_all([Finding(reason=str(Local.INTERNAL), what=type(error).__name__)])
                delay = self.interval_seconds
            await asyncio.sleep(delay)
            if not (self._waiting or self._refreshes):
                await self._pause(self.due - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def round(self) -> None:
        """Have the node and every process on it judged once."""
        refreshes, self._refreshes = self._refreshes, []
        try:
            waiting = [one.subject for one in list(self._waiting.values())[:MOST_NEW]]
            asked = {one.key_name: one for one in (*self.known.values(), *waiting)}
            places = {one.place: one for one in asked.values() if one.needs_canary}
            challenge = await self._challenge(tuple(places))
            await self._judge_all(challenge, asked, await self._let_loose(challenge, places))
        except Refused as refused:
            await self._take_refusal(refused)
        finally:
            self.rounds += 1
            for done in refreshes:
                if not done.done():
                    done.set_result(None)

    async def _take_refusal(self, refused: Refused) -> None:
        codes = {str(finding.reason) for finding in refused.findings}
        log.warning("the verifier refused the node: %s", refused)
        if codes == {NODE_UNKNOWN}:
            for subject in self.known.values():
                subject.suspend(refused.findings)  # an operator has removed the node
            await self.enrol()
            raise Unreachable("the node has just enrolled")
        if all(code.startswith(CHALLENGE) for code in codes):
            raise Unreachable("the challenge did not last")
        self._refuse_all(refused.findings)

    def _refuse_all(self, findings: Iterable[Finding]) -> None:
        """Sign nothing any more: the node is refused, and with it every process on it."""
        self.findings = tuple(findings)
        self._ready.set()
        for subject in self.known.values():
            subject.suspend(self.findings)
        for waiting in self._waiting.values():
            if not waiting.outcome.done():
                waiting.outcome.set_exception(Refused(self.findings))

    async def _challenge(self, places: tuple[Place, ...]) -> Challenge:
        if self._keys is None:
            _, self._keys = await self.verifier.grant_keys()
        request = ChallengeRequest(node=self.machine.node, places=places)
        challenge = await self._ask("/v1/challenge", request, Challenge)
        if challenge.node != self.machine.node:
            raise Unreachable("the verifier's challenge is for another node")
        if challenge.trust_domain != self._keys.trust_domain:
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

    async def _judge_all(
        self,
        challenge: Challenge,
        asked: Mapping[bytes, Subject],
        canaries: tuple[CanaryReport, ...],
    ) -> None:
        present: tuple[Presence, ...] = ()
        for last in range(LOOK_TRIES - 1, -1, -1):
            # What an earlier try of this round has seen counts too, so that tries come to an end.
            present = join(present, await self._presences(asked.values()))
            seen = {
                name: one
                for name, one in (await self._look_at(asked)).items()
                if asked[name].secrets is not None  # it may have ended since its look
            }
            body = self._body(asked, seen, present, canaries)
            quoted = await self._quote(challenge, body)
            records = await self.measurement_list.run(
                lambda one: one.records_from(challenge.first_record)
            )
            again = await self._look_at({name: asked[name] for name in seen})
            later = await self._presences(asked.values())
            withdrawn = tuple(
                name
                for name in seen
                if not _is_unchanged(name, seen, again)
                or _has_company(seen[name].look, present, later)
            )
            present = join(present, later)
            if not withdrawn or not last:
                break
        evidence = Evidence(
            node=self.machine.node,
            challenge=challenge.digest(),
            body=body.encode(),
            quote=quoted.signed.attest,
            signature=quoted.signed.signature,
            registers=quoted.registers,
            records=records,
            withdrawn=withdrawn,
            boot_log=self._boot_log() if challenge.wants_boot_log else b"",
        )
        result = await self._ask("/v1/evidence", evidence, Result)
        if result.challenge != challenge.digest():
            raise Unreachable("the verifier's result is of another challenge")
        self.findings = ()
        self._ready.set()
        await self._hand_out(result, asked, seen, quoted.when)

    async def _look_at(self, asked: Mapping[bytes, Subject]) -> dict[bytes, Seen]:
        """Return what is seen of each process; those that cannot be seen are not in it.

        Who makes us wait does so once: the other processes of that user are not looked at.
        """
        found: dict[bytes, Seen] = {}
        slow: set[int] = set()
        for name, subject in asked.items():
            if subject.secrets is None:
                continue
            try:
                if subject.peer.uid in slow:
                    raise NoLook("another process of the same user took too long")  # noqa: TRY301
                seen = Seen(*await self.looker.run(partial(Looker.look, pins=subject.pins)))
            except Executed:
                self.on_end(subject, EXECUTED)
                continue
            except NoLook as error:
                log.info("%s: %s", subject.label, error)
                if isinstance(error, TooSlow):
                    slow.add(subject.peer.uid)
                refused = refuse(Local.LOOK_FAILED, subject.label, found=str(error))
                self._refuse_waiting(name, refused)
                continue
            if is_same_process(subject.look, seen.look):
                found[name] = seen
            else:
                self.on_end(subject, CHANGED)
        return found

    async def _presences(self, asked: Iterable[Subject]) -> tuple[Presence, ...]:
        """Return where the processes of the subjects' uids are; UNSEEN where it is not known."""
        uids = {subject.core.uid for subject in asked}
        if not uids:
            return ()
        try:
            return await self.looker.run(partial(Looker.presences, uids=uids))
        except NoLook as error:
            log.warning("processes of the same users: %s", error)
            return tuple(Presence(uid=uid, cgroups=(UNSEEN,)) for uid in sorted(uids))

    def _refuse_waiting(self, name: bytes, refused: Refused) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.outcome.done():
            waiting.outcome.set_exception(refused)

    def _body(
        self,
        asked: Mapping[bytes, Subject],
        seen: Mapping[bytes, Seen],
        present: tuple[Presence, ...],
        canaries: tuple[CanaryReport, ...],
    ) -> Body:
        new, known = [], []
        for name, one in seen.items():
            if name in self.known:
                known.append(KnownProcess(key_name=name, look=one.look))
                continue
            subject = asked[name]
            key = subject.own_secrets().process_key
            assert key is not None
            new.append(
                NewProcess(
                    core=subject.core.encode(),
                    look=one.look,
                    public=key.public,
                    creation_data=key.creation_data,
                    certification=key.certification,
                    signature=key.signature,
                    modules=subject.modules,
                )
            )
        return Body(
            boot=self.machine.boot,
            kernel=self.machine.kernel,
            instances=self.machine.instance.history,
            hand_overs=self.machine.instance.hand_overs,
            canaries=canaries,
            posture=read_posture(),
            presences=present,
            new=tuple(new),
            known=tuple(known),
        )

    async def _quote(self, challenge: Challenge, body: Body) -> Quoted:
        binding = quote_binding(challenge.trust_domain, challenge.digest(), body.digest())
        return await self.tpm.run(lambda one: take_quote(one, binding))

    def _boot_log(self) -> bytes:
        """Return the boot's event log; nothing where there is none, or one that nobody takes."""
        try:
            with open(self.machine.boot_log, "rb") as file:  # noqa: PTH123
                data = file.read(MOST_LOG_BYTES + 1)
        except OSError as error:
            log.warning("no boot log: %s", error)
            return b""
        if len(data) > MOST_LOG_BYTES:
            log.warning("no boot log: %s has more than %d bytes", file.name, MOST_LOG_BYTES)
            return b""
        return data

    # Results

    async def _hand_out(
        self,
        result: Result,
        asked: Mapping[bytes, Subject],
        seen: Mapping[bytes, Seen],
        quoted: float,
    ) -> None:
        outcomes = {one.key_name: one for one in result.outcomes}
        for name, subject in asked.items():
            if subject.secrets is None:
                continue
            if name not in seen or name not in outcomes:
                # The verifier has ended what it was not told of.
                self._refuse(subject, refuse(Local.PROCESS_CHANGED, subject.label).findings)
                continue
            try:
                await self._take(subject, outcomes[name], seen[name], result.challenge, quoted)
            except (Refused, MalformedGrant) as refused:
                log.info("%s: %s", subject.label, refused)
                self._refuse(subject, refused.findings)
            except (NoLook, TpmFailed) as error:
                log.warning("%s: %s", subject.label, error)
                self._refuse_waiting(name, refuse(Local.TPM, subject.label, found=str(error)))

    def _refuse(self, subject: Subject, findings: tuple[Finding, ...]) -> None:
        subject.forget(findings)
        self.known.pop(subject.key_name, None)
        self._refuse_waiting(subject.key_name, Refused(findings))

    async def _take(
        self, subject: Subject, outcome: Outcome, seen: Seen, challenge: bytes, quoted: float
    ) -> None:
        """Open one process's grant; the verifier's word, the process and the TPM have to agree."""
        if not outcome.grant:
            raise Refused([_finding(one) for one in outcome.findings] or [_SILENT])
        assert self._keys is not None
        chain = subject.own_secrets().chain
        granted = grant.read(
            outcome.grant,
            self._keys,
            node=self.machine.node,
            key_name=subject.key_name,
            core=subject.core_hash,
            challenge=challenge,
            next_step=chain.step + 1 if chain else 0,
        )
        # One that is known may have changed since: then its glance is not the one that was judged,
        # and before its next proof the verifier judges it again.
        if chain is None and await self._glance(subject) != seen.glance:
            raise refuse(Local.PROCESS_CHANGED, subject.label)
        chain = await self._chain(subject, granted)
        token = grant.open_token(granted, key=chain.key) if granted.ciphertext else ""
        # The process may have ended while the TPM worked: then its keys are gone, and it is out.
        subject.accept(granted, token, chain, quoted)
        subject.look, subject.glance = seen.look, seen.glance
        self.known[subject.key_name] = subject
        waiting = self._waiting.get(subject.key_name)
        if waiting is not None and not waiting.outcome.done():
            waiting.outcome.set_result(None)

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

    async def _ask(self, route: str, message: Message, answer: type[Answer]) -> Answer:
        return await self.verifier.ask(route, self.machine.instance.sign(message), answer)


def _is_unchanged(name: bytes, first: Mapping[bytes, Seen], second: Mapping[bytes, Seen]) -> bool:
    return name in second and is_unchanged(first[name].look, second[name].look)


def _has_company(look: Look, first: Iterable[Presence], second: Iterable[Presence]) -> bool:
    """Say whether the process was alone with its uid, but for its own cgroup, and is no more."""
    uid, cgroup = look.uids[1], look.cgroup
    return is_alone(first, uid, cgroup) and not is_alone(second, uid, cgroup)


def _finding(text: FindingText) -> Finding:
    return Finding(reason=text.reason, what=text.what, expected=text.expected, found=text.found)


def take_quote(one: Tpm, binding: bytes) -> Quoted:
    """Return a quote together with the register values that it covers."""
    for _ in range(QUOTE_TRIES):
        when = boot_seconds()
        signed = one.quote(binding)
        registers = one.read_registers()
        attested = tpm.Attest.decode(signed.attest).attested
        assert isinstance(attested, tpm.Quote)
        if attested.digest == hashlib.sha256(b"".join(registers)).digest():
            return Quoted(signed, registers, when)
    raise TpmFailed(f"the registers changed after each of {QUOTE_TRIES} quotes")
