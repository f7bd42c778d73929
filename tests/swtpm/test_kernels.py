"""Which kernel a name means, and what goes on its command line."""

from pathlib import Path

import pytest

from swtpm import Failed
from swtpm.kernels import Kernel, Offer, choose, ima_template, newest_of_each_series
from swtpm.programs import BUILD


def offer(name: str, version: str, suite: str) -> Offer:
    return Offer(name=name, package=f"linux-image-{name}-amd64", version=version, suite=suite)


OLD = offer("6.1.0-9", "6.1.27-1", "bookworm")
NEW = offer("6.1.0-56", "6.1.192-2", "bookworm-security")
BACKPORT = offer("7.3.4+deb13", "7.3.4-1~bpo13+1", "trixie-backports")
CANDIDATE = offer("7.3", "7.3~rc7-1~exp1", "experimental")
TESTING = offer("7.4.1+deb14", "7.4.1-1", "forky")
OFFERS = (NEW, CANDIDATE, OLD, TESTING, BACKPORT)


def test_suites_of_debian_releases_are_released() -> None:
    assert [one.name for one in OFFERS if not one.is_released] == ["7.3", "7.4.1+deb14"]


def test_the_newest_of_a_series_is_a_released_one_where_there_is_one() -> None:
    assert newest_of_each_series(OFFERS) == (NEW, BACKPORT, TESTING)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("6.1.0-9", OLD),
        ("6.1", NEW),
        ("7.3", CANDIDATE),
        ("7.3.4+deb13", BACKPORT),
        ("7.4", TESTING),
    ],
)
def test_a_name_is_a_kernels_own_or_a_series(name: str, chosen: Offer) -> None:
    assert choose(name, OFFERS) == chosen


@pytest.mark.parametrize("name", ["", "6", "6.10", "6.1.0", "linux"])
def test_another_name_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(Failed, match=r"the mirror some of each of 6\.1, 7\.3, 7\.4"):
        choose(name, OFFERS)


def test_a_kernel_that_is_not_there_says_how_to_fetch_it() -> None:
    with pytest.raises(Failed, match=r"python -m swtpm fetch --kernel 0\.1"):
        Kernel.at("0.1", BUILD)


def test_templates_by_name_and_by_fields() -> None:
    assert ima_template("ima-ngv2") == "ima_template=ima-ngv2"
    assert ima_template("d-ng|n-ng") == "ima_template_fmt=d-ng|n-ng"


@pytest.mark.parametrize(
    "image", ["boot/vmlinuz-7.1-cloud-amd64", "usr/lib/modules/7.1-cloud-amd64/vmlinuz"]
)
def test_a_kernel_knows_what_it_calls_itself(tmp_path: Path, image: str) -> None:
    """Newer packages have the image among the modules."""
    (tmp_path / image).parent.mkdir(parents=True)
    (tmp_path / image).touch()
    assert Kernel("7.1", tmp_path).release == "7.1-cloud-amd64"
