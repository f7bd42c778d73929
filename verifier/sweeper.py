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

    def sweep(self) -> int:
        """End what is over; suspend, later end, what is of silent nodes; say how many of all.

        To be called every second. The time that this verifier was not there does not count: before
        its start, and where a whole interval went by without a call that came to its end, as on a
        host that slept, or while the database was away.
        """
        now = self._service.now()
        if now - self._swept > self._service.config.interval:
            self._there_since = now
        count = self._end_over() + self._end_silent(now)
        self._swept = now
        return count

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
        """Return the time so many intervals ago, 0 if the verifier was not there since."""
        span = intervals * self._service.config.interval
        is_known = now - self._there_since >= span
        return int((now - span).timestamp()) if is_known else 0
