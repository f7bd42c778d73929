"""Which kernels are tried with which templates."""

from dataclasses import dataclass
from functools import cache

import pytest

from evidence.ima import LEGACY, TEMPLATES
from swtpm import kernels

WITHOUT_IMA = (5, 10)
"""Debian 11's cloud kernels are built without it."""

DEFAULT_TEMPLATE = "ima-sig"
CUSTOM_TEMPLATE = "n-ng|d-ngv2|iuid"
EVERY_TEMPLATE = (*(name for name in TEMPLATES if name != LEGACY), CUSTOM_TEMPLATE)
"""The kernel takes the first one, `ima`, with `ima_hash=sha1` alone, which the lab does not say."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A kernel, and the template that it is told to use."""

    kernel: str
    template: str
    suite: str = "set-up"
    series: tuple[int, ...] = ()
    is_released: bool = True

    def parameter(self) -> object:
        """Return the parameter of the test; one that may fail where nobody released the kernel."""
        marks = () if self.is_released else pytest.mark.xfail(strict=False, reason="not released")
        name = f"{self.kernel}-{self.template}"
        return pytest.param(self.kernel, self, id=name, marks=marks)


BY_DEFAULT = (
    Chosen(kernel="6.1", template=DEFAULT_TEMPLATE),
    Chosen(kernel="6.1", template="ima-sigv2"),
    Chosen(kernel="6.1", template=CUSTOM_TEMPLATE),
    Chosen(kernel="6.12", template=DEFAULT_TEMPLATE),
)
"""What every run of the tests tries: the host release's kernel, and the lab's."""


@cache
def offered() -> tuple[kernels.Offer, ...]:
    """Return what the mirror has, asked once: every test with a kernel wants to know."""
    return kernels.offers()


def choose_to_live_in(names: list[str]) -> tuple[str, ...]:
    """Return the kernels on which attacks are played: of many, the newest of each series."""
    if not names:
        return kernels.NAMES
    offers = offered()
    newest = kernels.newest_of_each_series(offers)
    wanted = newest if {"all", "newest"} & {*names} else [kernels.choose(n, offers) for n in names]
    return tuple(one.name for one in wanted if one.series != WITHOUT_IMA)


def choose(names: list[str], templates: list[str]) -> tuple[Chosen, ...]:
    """Return what the options ask for."""
    if not names:
        return BY_DEFAULT
    offers = offered()
    newest = kernels.newest_of_each_series(offers)
    if names == ["all"]:
        wanted = offers
    elif names == ["newest"]:
        wanted = newest
    else:
        wanted = tuple(kernels.choose(name, offers) for name in names)
    return tuple(
        Chosen(
            kernel=one.name,
            template=template,
            suite=one.suite,
            series=one.series,
            is_released=one.is_released,
        )
        for one in wanted
        for template in templates or (EVERY_TEMPLATE if one in newest else (DEFAULT_TEMPLATE,))
    )
