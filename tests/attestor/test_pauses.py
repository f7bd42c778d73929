"""Pauses grow, are bounded, and differ from attestor to attestor."""

from attestor.pauses import Pauses


def test_each_pause_is_of_twice_the_length_up_to_the_longest() -> None:
    pauses = Pauses(first_seconds=1, longest_seconds=10)
    for most in (1, 2, 4, 8, 10, 10, 10):
        assert most / 2 <= pauses.after_failure() <= most
    pauses.after_success()
    assert pauses.after_failure() <= 1


def test_attestors_that_fail_together_do_not_try_together() -> None:
    found = [Pauses(first_seconds=1, longest_seconds=1).after_failure() for _ in range(200)]
    assert len(set(found)) == 200
    assert max(found) - min(found) > 0.3
