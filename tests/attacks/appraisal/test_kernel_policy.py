"""Attacks on the measurement list: under one of our kernel policies from the start."""

import pytest

from tests.simulated_keys import sha256
from tests.simulated_node import (
    KERNEL_POLICY,
    LIBC,
    SYSTEM_FILES,
    SimulatedNode,
    make_record,
)
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason
from verifier.policy.kernel import KernelPolicy

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"


@pytest.mark.attack(number=44, attacker=ROOT, asset=NODE)
def test_044_no_kernel_policy_at_all(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    node.relist(node.records[:2])
    expected = {Reason.KERNEL_POLICY_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_was_not_measured(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.relist([*node.records[:2], *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 12, 13])
def test_045_a_kernel_policy_loaded_after_something_else(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    early = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC]), register=register)
    node.relist([*node.records[:2], early, *node.records[2:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    lax = make_record("/etc/ima/ima-policy", sha256(b"dont_measure uid=0"))
    node.relist([*node.records[:2], lax, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_UNKNOWN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("path", "contents"),
    [
        pytest.param("etc/ima/ima-policy", b"dont_measure uid=0", id="the same file, changed"),
        pytest.param("root/ima-policy", b"dont_measure uid=0", id="another of that name"),
        pytest.param("root/x", KERNEL_POLICY, id="the same rules again"),
    ],
)
def test_047_a_second_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str, contents: bytes
) -> None:
    """No kernel to be had loads a second one: Debian builds CONFIG_IMA_WRITE_POLICY off."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure(path, contents)
    expected = {Reason.KERNEL_POLICY_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=USER, asset=NODE)
def test_047_a_user_who_runs_what_looks_like_a_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """In the users' register neither the name nor the digest says that one was loaded."""
    node.measure("home/user/ima-policy", b"#!/bin/sh", register=12)
    node.measure("home/user/x", KERNEL_POLICY, register=12)
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_is_only_critical_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Bytes that somebody let the kernel measure are not a policy that it has loaded."""
    digest = sha256(KERNEL_POLICY)
    data = make_record("x", digest, template="ima-buf", last=KERNEL_POLICY)
    node.relist([*node.records[:2], data, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


SHOWN = b"measure func=BPRM_CHECK \nmeasure func=MMAP_CHECK mask=MAY_EXEC \n"
"""What a kernel of 7.3 or newer measures once it has loaded KERNEL_POLICY."""
LOADED = "ima_policy_loaded"


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_the_rules_that_the_kernel_shows_are_those_of_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_a_file_that_is_written_as_the_kernel_shows_it(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    file = make_record("/etc/ima/ima-policy", sha256(SHOWN))
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:2], file, shown, *node.records[3:]])
    verifier.policy = node.policy(version=2, kernel_policies=(KernelPolicy.of(SHOWN),))
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(b"dont_measure uid=1000 \n" + SHOWN, id="one more"),
        pytest.param(SHOWN.splitlines(keepends=True)[0], id="one less"),
        pytest.param(KERNEL_POLICY, id="the text of the file"),
        pytest.param(b"", id="none"),
    ],
)
def test_046_other_rules_than_those_of_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(rules), template="ima-buf", last=rules)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_RULES}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("rules", [SHOWN, b"dont_measure uid=1000 \n"])
def test_046_rules_that_were_loaded_again(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure_buffer(LOADED, rules)
    expected = {Reason.KERNEL_POLICY_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("rules", [SHOWN, b"dont_measure uid=1000 \n"])
def test_045_rules_that_were_loaded_before_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(rules), template="ima-buf", last=rules)
    node.relist([*node.records[:2], shown, *node.records[2:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_rules_of_a_file_that_nobody_can_tell(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """What the kernel makes of an option that is not known here is not known either."""
    strange = b"measure func=BPRM_CHECK subj_type=payments_t\n"
    shown = b"measure func=BPRM_CHECK subj_type=payments_t \n"
    node.relist(
        [
            *node.records[:2],
            make_record("/etc/ima/ima-policy", sha256(strange)),
            make_record(LOADED, sha256(shown), template="ima-buf", last=shown),
            *node.records[3:],
        ]
    )
    verifier.policy = node.policy(version=2, kernel_policies=(KernelPolicy.of(strange),))
    expected = {Reason.KERNEL_POLICY_RULES}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=ROOT, asset=NODE)
def test_047_a_kernel_policy_written_rule_by_rule(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Kernels that measure it show it as critical data, which no reference set knows."""
    node.measure_buffer("ima_policy_written", b"dont_measure uid=0")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=48, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param(".ima", b"0\x82 a certificate", id="a key to sign files with"),
        pytest.param(".builtin_trusted_keys", b"0\x82 a certificate", id="a key of the kernel's"),
        pytest.param("init_module", b"\x7fELF module", id="a module without a file"),
        pytest.param("selinux-state", b"initialized=1;enforcing=0;", id="SELinux not enforcing"),
        pytest.param("kexec-cmdline", b"root=/dev/sdb ima_policy=", id="another command line"),
        pytest.param("kexec_load", b"kexec_segment_size=1", id="a kexec that was prepared"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_048_critical_data_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, name: str, data: bytes, *, is_late: bool
) -> None:
    """Such records may come before the kernel policy, and then too they have to be known."""
    if is_late:
        verifier.judge(node.evidence(verifier.challenge()))
        node.measure_buffer(name, data)
    else:
        record = make_record(name, sha256(data), template="ima-buf", last=data)
        node.relist([*node.records[:2], record, *node.records[2:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
