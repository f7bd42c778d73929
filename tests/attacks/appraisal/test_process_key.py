"""Attacks on the key that was made for a record."""

from dataclasses import replace
from typing import Any

import pytest

from evidence import process_key, tpm
from tests.attacks.asking import IDENTITY, ROOT, why
from tests.simulated_node import SimulatedNode
from tests.simulated_tpm import SimulatedTpm
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason


@pytest.mark.attack(number=83, attacker=ROOT, asset=IDENTITY)
def test_083_a_body_that_the_quote_does_not_bind(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A quote that somebody else let the TPM make, with a body of his own."""
    evidence = node.unsigned_evidence(verifier.challenge())
    body = node.body([node.new_process()]).encode()
    assert verifier.refusal(replace(evidence, body=body)) == {Reason.QUOTE_BINDING}


@pytest.mark.attack(number=84, attacker="the network", asset=IDENTITY)
def test_084_a_use_key_exchanged_on_the_way(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, thief = node.new_process(), node.new_process()
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([process]))
    stolen = replace(process.core, use_key=thief.core.use_key).encode()
    bent = replace(process, new=replace(process.new, core=stolen))
    body = node.body([bent])
    assert verifier.refusal(replace(evidence, body=body.encode())) == {Reason.QUOTE_BINDING}


@pytest.mark.attack(number=84, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize(
    "change",
    [
        {"use_key": b"\x04" + bytes(64)},
        {"identity": "spiffe://example.org/other"},
        {"pid": 1},
        {"user": "root"},
        {"binding": "launched"},
    ],
)
def test_084_a_key_made_for_another_record(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any]
) -> None:
    process = node.new_process()
    changed = replace(process.core, **change).encode()
    process = replace(process, new=replace(process.new, core=changed))
    assert why(verifier, process) == {Reason.PROCESS_KEY_RECORD}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "public",
    [
        pytest.param({"attributes": process_key.ATTRIBUTES & ~tpm.FIXED_TPM}, id="movable"),
        pytest.param({"attributes": process_key.ATTRIBUTES & ~tpm.FIXED_PARENT}, id="adoptable"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.USER_WITH_AUTH}, id="auth alone"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.DECRYPT}, id="decrypts"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.RESTRICTED}, id="restricted"),
        pytest.param(
            {"attributes": process_key.ATTRIBUTES & ~tpm.ADMIN_WITH_POLICY}, id="without policy"
        ),
        pytest.param(
            {"attributes": process_key.ATTRIBUTES & ~tpm.SENSITIVE_DATA_ORIGIN}, id="made outside"
        ),
        pytest.param({"policy": b""}, id="empty policy"),
        pytest.param({"policy": bytes(32)}, id="another policy"),
        pytest.param({"name_hash": tpm.ALG_SHA1}, id="Name by SHA-1"),
        pytest.param({"scheme": tpm.NO_SCHEME}, id="any scheme"),
        pytest.param({"size": tpm.CURVE_P384}, id="another curve"),
        pytest.param({"symmetric": tpm.AES_128_CFB}, id="a storage key"),
    ],
)
def test_084_a_key_of_another_template(
    node: SimulatedNode, verifier: SimulatedVerifier, public: dict[str, Any]
) -> None:
    """Certified all the same: the TPM would, of any key that it can make."""
    assert why(verifier, node.new_process(public=public)) == {Reason.PROCESS_KEY_ATTRIBUTES}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "creation",
    [
        pytest.param(
            {
                "parent_qualified_name": tpm.qualify(
                    SimulatedNode().tpm.storage_primary().name(),
                    tpm.hierarchy_name(tpm.RH_OWNER),
                )
            },
            id="owner hierarchy",
        ),
        pytest.param({"parent_qualified_name": b""}, id="none"),
        pytest.param({"parent_name": b"\0\x0b" + bytes(32)}, id="another parent"),
        pytest.param(
            {
                "parent_name": tpm.hierarchy_name(tpm.RH_NULL),
                "parent_qualified_name": tpm.hierarchy_name(tpm.RH_NULL),
                "parent_name_hash": tpm.ALG_NULL,
            },
            id="a primary",
        ),
        pytest.param({"parent_name": b"", "parent_qualified_name": b""}, id="nothing"),
    ],
)
def test_084_a_key_that_outlives_the_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, creation: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(creation=creation)) == {Reason.PROCESS_KEY_PARENT}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "creation",
    [
        pytest.param({"selections": ()}, id="no registers"),
        pytest.param({"digest": bytes(32)}, id="other values"),
        pytest.param(
            {"selections": (tpm.PcrSelection(bank=tpm.ALG_SHA1, registers=tuple(range(8))),)},
            id="another bank",
        ),
    ],
)
def test_084_a_key_made_before_the_boot_was_what_it_is(
    node: SimulatedNode, verifier: SimulatedVerifier, creation: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(creation=creation)) == {Reason.PROCESS_KEY_RESET}


@pytest.mark.attack(number=14, attacker=ROOT, asset="the credential")
def test_014_a_key_of_another_boot(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process()
    node.tpm.restart_count += 1
    assert why(verifier, process) == {Reason.PROCESS_KEY_RESET}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_by_another_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    forged = SimulatedTpm("software").signature(process.new.certification)
    process = replace(process, new=replace(process.new, signature=forged))
    assert why(verifier, process) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=13, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize("change", [{"hash": tpm.ALG_SHA1}, {"hash": 0}])
def test_013_a_certification_by_another_scheme(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any]
) -> None:
    process = node.new_process()
    signature = replace(tpm.Signature.decode(process.new.signature), **change).encode()
    process = replace(process, new=replace(process.new, signature=signature))
    assert why(verifier, process) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_of_another_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, other = node.new_process(), node.new_process()
    swapped = replace(process.new, public=other.new.public)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}
    swapped = replace(
        process.new, certification=other.new.certification, signature=other.new.signature
    )
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}
    swapped = replace(process.new, creation_data=other.new.creation_data)
    refused = why(verifier, replace(process, new=swapped))
    assert refused == {Reason.PROCESS_KEY_CERTIFICATION, Reason.PROCESS_KEY_RECORD}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_quote_in_the_place_of_a_certification(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    quote, signature = node.tpm.quote(bytes(32))
    swapped = replace(process.new, certification=quote, signature=signature)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_by_the_key_of_another_hierarchy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    certified = tpm.Attest.decode(process.new.certification).attested
    owner = node.tpm.ak.qualified_name(tpm.hierarchy_name(tpm.RH_OWNER))
    bent, signature = node.tpm.attest(attested=certified, qualified_signer=owner)
    swapped = replace(process.new, certification=bent, signature=signature)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}
