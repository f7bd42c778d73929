"""What a kernel shows of the rules that it has loaded."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.ima import read_measurement, read_records
from swtpm import kernel_policy
from verifier.policy.kernel import BUILT_IN, KernelPolicy, show_rules


@pytest.mark.parametrize("name", ["7.3-ima-ng", "uki-7.3"])
def test_our_rules_as_a_real_kernel_shows_them(repository: Path, name: str) -> None:
    """Under Secure Boot it has rules of its own before them."""
    capture = repository / "tests/vectors" / name / "binary_runtime_measurements"
    measured = (read_measurement(one) for one in read_records(capture.read_bytes()))
    [shown] = [one.digest for one in measured if one.path == b"ima_policy_loaded"]
    assert shown in KernelPolicy.of(kernel_policy.render()).rules


def test_what_a_kernel_has_of_its_own_measures() -> None:
    """Into register 10, and whoever it is: such a rule takes nothing away from the file's."""
    for own in BUILT_IN:
        for line in own.splitlines():
            assert line.startswith("measure func=")
            assert all(word.startswith(("func=", "label=")) for word in line.split()[1:])


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ("measure func=BPRM_CHECK", "measure func=BPRM_CHECK \n"),
        ("  measure\tfunc=BPRM_CHECK # no comment", None),
        ("# a comment\n\nmeasure", "measure \n"),
        ("measure pcr=012 uid=7 func=FILE_CHECK", "measure func=FILE_CHECK pcr=12 uid=7 \n"),
        ("dont_measure fsmagic=0x01021994", "dont_measure fsmagic=0x1021994 \n"),
        ("measure euid>999 fowner<9", "measure euid>999 fowner<9 \n"),
        ("appraise func=BPRM_CHECK", None),
        ("measure func=BPRM_CHECK func=BPRM_CHECK", None),
        ("measure subj_type=payments_t", None),
        ("measure func", None),
        ("measure fsmagic=many", None),
        ("measure fsname=tmpfs\u00e9", None),
        ("", ""),
    ],
)
def test_a_rule(rule: str, shown: str | None) -> None:
    assert show_rules(rule.encode()) == (None if shown is None else shown.encode())


def test_a_file_whose_rules_are_not_known_has_no_digest_of_them() -> None:
    assert KernelPolicy.of(b"appraise func=BPRM_CHECK").rules == frozenset()
    assert len(KernelPolicy.of(b"measure func=BPRM_CHECK").rules) == len(BUILT_IN)


@given(st.one_of(st.binary(), st.text(alphabet="measure dontfunc=>pcr01 \n#").map(str.encode)))
def test_what_is_shown_is_shown_the_same_again(text: bytes) -> None:
    shown = show_rules(text)
    assert shown is None or show_rules(shown) == shown
