"""Stated times, on machines that may be busy with other things than what is tested.

demand_within(1.0, waited)   raises Late where it took longer
@again_if_late               such a test is played up to three times: once in time is enough

A machine that has other work delays one of them; what keeps its time badly is late each time.
Whatever else a test demands, it has to be so the first time.
"""

import pytest


class Late(AssertionError):
    """All is as it has to be, and came later than stated."""


again_if_late = pytest.mark.flaky(reruns=2, only_rerun=Late)
once_only = pytest.mark.flaky(reruns=0, only_rerun=Late)
"""For what cannot be played again, where others of its file are."""


def demand_within(seconds: float, waited: float) -> None:
    """Raise Late unless no longer was waited than that."""
    if waited > seconds:
        raise Late(f"after {waited:.1f} s, and stated are {seconds:g} s")
