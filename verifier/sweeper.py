"""The sweeper: what ends by itself, because a time is over or a node is silent."""

from datetime import datetime

from verifier.endings import revoke_all, suspend_all
from verifier.grants import end_over
from verifier.ledger import Cause
from verifier.service import Service


class Sweeper:
    """Whoever calls `sweep` every second; there has to be one for as long as a service runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._swept = self._there_since = service.started
        self._absences: dict[datetime, datetime] = {}
        """Start and end of each, the oldest first."""

    def sweep(self) -> int:
        """End what is over; suspend, later end, what is of silent nodes; say how many of all.

        To be called every second. The time that this verifier was not there is no silence: before
        its start, and where a whole interval went by without a call that came to its end, as on a
        host that slept or is busy, or while the database was away. After an absence in which it
        would have suspended nodes, it begins anew: attestors pause for longer meanwhile.
        """
        now = self._service.now()
        self._notice_absence(now)
        count = self._end_over() + self._end_silent(now)
        self._swept = now
        return count

    def _notice_absence(self, now: datetime) -> None:
        config = self._service.config
        length = now - self._swept
        if length > config.suspend_after * config.interval:
            self._there_since = now
            self._absences.clear()
        elif length > config.interval:
            self._absences[self._swept] = now  # the same one where the last sweep failed

    def _end_over(self) -> int:
        """End what rests on a grant or a window that has closed; say how many credentials."""
        now = int(self._service.now().timestamp())
        with self._service.reading() as reading:
            if not (reading.grants(over_by=now) or reading.processes(over_by=now)):
                return 0
        with self._service.transaction() as transaction:
            return end_over(transaction, self._service.policy(transaction).policy)

    def _end_silent(self, now: datetime) -> int:
        """Suspend, later end, what is of silent nodes; say how many credentials."""
        late = self._before(now, self._service.config.suspend_after)
        too_old = self._before(now, self._service.config.late_after)
        self._absences = {
            began: ended for began, ended in self._absences.items() if ended.timestamp() >= too_old
        }
        with self._service.reading() as reading:
            if not (late and reading.processes(accepted_before=late, is_suspended=False)) and not (
                too_old and reading.processes(accepted_before=too_old)
            ):
                return 0
        with self._service.transaction() as transaction:
            count = 0
            if too_old:
                silent = transaction.processes(accepted_before=too_old)
                count += revoke_all(transaction, silent, Cause.TOO_OLD)
            silent = transaction.processes(accepted_before=late, is_suspended=False)
            return count + suspend_all(transaction, silent, Cause.LATE)

    def _before(self, now: datetime, intervals: int) -> int:
        """Return since when it was there for so many intervals, 0 if for less."""
        start = now - intervals * self._service.config.interval
        for began, ended in reversed(self._absences.items()):
            if ended >= start:
                start -= ended - began
        return int(start.timestamp()) if start >= self._there_since else 0
