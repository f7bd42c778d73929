"""What a round sees of many processes, and what has changed when it looks again."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from attestor.look import Glance
from attestor.looker import Looker
from attestor.presences import UNSEEN, is_alone
from attestor.proc import Executed, NoLook, TooSlow
from attestor.reasons import Local, refuse
from attestor.roster import Roster
from attestor.subject import CHANGED, EXECUTED, Subject, is_same_process, is_unchanged
from attestor.watch import OnEnd
from attestor.worker import Worker
from evidence.posture import Presence
from evidence.process import Look

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True)
class Seen:
    """A look, and the glance that belongs to it."""

    look: Look
    glance: Glance


@dataclass(frozen=True, slots=True)
class Lookout:
    """Looks at processes one after the other."""

    looker: Worker[Looker]
    roster: Roster
    """Whoever waits there and cannot be seen is refused."""
    on_end: OnEnd
    """Called where a process turns out to be no longer what it was."""

    async def look_at(self, asked: Mapping[bytes, Subject]) -> dict[bytes, Seen]:
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
                self.roster.refuse_waiting(subject, refused.findings)
                continue
            if is_same_process(subject.look, seen.look):
                found[name] = seen
            else:
                self.on_end(subject, CHANGED)
        return found

    async def presences(self, subjects: Iterable[Subject]) -> tuple[Presence, ...]:
        """Return where the processes of the subjects' uids are; UNSEEN where it is not known."""
        uids = {subject.core.uid for subject in subjects}
        if not uids:
            return ()
        try:
            return await self.looker.run(partial(Looker.presences, uids=uids))
        except NoLook as error:
            log.warning("processes of the same users: %s", error)
            return tuple(Presence(uid=uid, cgroups=(UNSEEN,)) for uid in sorted(uids))


def is_seen_unchanged(
    name: bytes, first: Mapping[bytes, Seen], second: Mapping[bytes, Seen]
) -> bool:
    """Say whether a process that was seen first is seen again, and looks the same."""
    return name in second and is_unchanged(first[name].look, second[name].look)


def has_company(look: Look, first: Iterable[Presence], second: Iterable[Presence]) -> bool:
    """Say whether the process was alone with its uid, but for its own cgroup, and is no more."""
    uid, cgroup = look.uids[1], look.cgroup
    return is_alone(first, uid, cgroup) and not is_alone(second, uid, cgroup)
