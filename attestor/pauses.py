"""How long to wait before something that failed is tried again."""

from secrets import SystemRandom

_chance = SystemRandom()


class Pauses:
    """Each up to twice as long as the last, up to a longest one.

    Each is cut by chance to between half and all of that: the attestors of a whole site, which lost
    their verifier in the same moment, do not come back to it in one.
    """

    def __init__(self, *, first_seconds: float, longest_seconds: float) -> None:
        self._first, self._longest = first_seconds, longest_seconds
        self._next = first_seconds

    def after_failure(self) -> float:
        """Return how long to wait now, in seconds."""
        most = self._next
        self._next = min(2 * most, self._longest)
        return _chance.uniform(most / 2, most)

    def after_success(self) -> None:
        """Begin with the first one again."""
        self._next = self._first
