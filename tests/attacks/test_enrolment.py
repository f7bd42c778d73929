"""Attacks on link 1 and 2: whose TPM it is, and whether the key that signs is in it."""

# ruff: noqa: ANN401 - `changes` are fields of any type

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from evidence import Malformed, tpm
from evidence.certificate import Certificate
from evidence.messages import Activation, Enrol
from tests.makers import certify, found, trusting
from tests.simulated_keys import EK, ecc_public, private_key, sha256
from tests.simulated_node import NOW, SimulatedNode
from tests.simulated_tpm import MANUFACTURER, SimulatedManufacturer
from verifier import Reason, Rejected
from verifier.crypto.activation import make_credential
from verifier.endorsement import Trust
from verifier.enrolment import Allowed, JudgedEnrolment, ek_hash, judge_enrolment, verify_answer

NETWORK = "anyone who reaches the verifier"
BENCH = "the owner of another TPM"
ROOT = "root on the node"
NODE = "the node's identity"
SECRET = sha256(b"secret")
TRUST = Trust(roots=(Certificate.decode(MANUFACTURER.root()),))
NO_TRUST = Trust(roots=())


@pytest.fixture(params=["ecc", "rsa"])
def node(request: pytest.FixtureRequest) -> SimulatedNode:
    return SimulatedNode(ek=request.param)


def judge(enrol: Enrol, **changes: Any) -> JudgedEnrolment:
    """Judge it as a verifier that knows nobody yet, and whose inventory has this very EK."""
    fields: dict[str, Any] = {
        "holder": None,
        "ek_holder": "",
        "inventory": frozenset({Allowed(ek_hash=ek_hash(enrol.ek_public), node=enrol.node)}),
        "trust": TRUST,
        "require_certificate": True,
        "now": NOW,
    }
    return judge_enrolment(enrol, **(fields | changes))


def why(enrol: Enrol, **changes: Any) -> set[Reason]:
    """Return why it is refused."""
    with pytest.raises(Rejected) as rejection:
        judge(enrol, **({"inventory": ()} | changes))
    return {finding.reason for finding in rejection.value.findings}


def activation(node: SimulatedNode, judged: JudgedEnrolment, *, id_: str = "1") -> Activation:
    id_object, encrypted = make_credential(
        judged.ek, name=judged.ak_name, secret=SECRET, entropy=bytes(range(80))
    )
    assert judged.node == node.name
    return Activation(id=id_, expires=0, id_object=id_object, encrypted_secret=encrypted)


def test_an_honest_node(node: SimulatedNode) -> None:
    """What every test here changes one thing of."""
    judged = judge(node.enrol_message())
    assert judged.is_allowed
    assert judged.reported == ()
    answer = node.answer(activation(node, judged))
    verify_answer(answer, judged=judged, id_="1", secret=SECRET)


@pytest.mark.attack(number=91, attacker=NETWORK, asset=NODE)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"answer": b""}, id="empty"),
        pytest.param({"answer": bytes(32)}, id="zeros"),
        pytest.param({"id": "2"}, id="of another challenge"),
    ],
)
def test_091_a_wrong_answer(node: SimulatedNode, change: dict[str, Any]) -> None:
    judged = judge(node.enrol_message())
    answer = replace(node.answer(activation(node, judged)), **change)
    with pytest.raises(Rejected) as rejection:
        verify_answer(answer, judged=judged, id_="1", secret=SECRET)
    assert [one.reason for one in rejection.value.findings] == [Reason.ENROL_ANSWER]


@pytest.mark.attack(number=91, attacker=BENCH, asset=NODE)
def test_091_an_answer_to_another_secret_or_under_another_name(node: SimulatedNode) -> None:
    judged = judge(node.enrol_message())
    answer = node.answer(activation(node, judged))
    for changed, secret in ((judged, sha256(b"x")), (replace(judged, node="build-8"), SECRET)):
        with pytest.raises(Rejected) as rejection:
            verify_answer(answer, judged=changed, id_="1", secret=secret)
        assert [one.reason for one in rejection.value.findings] == [Reason.ENROL_ANSWER]


@pytest.mark.attack(number=92, attacker=BENCH, asset=NODE)
def test_092_a_known_name_with_another_tpm(node: SimulatedNode) -> None:
    other = SimulatedNode("bench")
    enrol = other.enrol_message(node=node.name)
    assert why(enrol, holder=node.enrolled()) == {Reason.ENROL_TAKEN}


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_a_known_name_with_another_attestation_key(node: SimulatedNode) -> None:
    enrol = node.enrol_message(ak_public=ecc_public(private_key("second")).encode())
    assert why(enrol, holder=node.enrolled(), ek_holder=node.name) == {Reason.ENROL_TAKEN}


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_a_known_tpm_under_another_name(node: SimulatedNode) -> None:
    enrol = node.enrol_message(node="build-8")
    assert why(enrol, ek_holder=node.name) == {Reason.ENROL_EK_ELSEWHERE}


@pytest.mark.attack(number=92, attacker=NETWORK, asset=NODE)
def test_092_the_same_node_again_changes_nothing(node: SimulatedNode) -> None:
    judged = judge(node.enrol_message(), holder=node.enrolled(), ek_holder=node.name)
    assert judged.ek_public == node.enrolled().ek_public


@pytest.mark.attack(number=93, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"attributes": 0x40072}, id="not restricted"),
        pytest.param({"attributes": 0x10072}, id="does not sign"),
        pytest.param({"attributes": 0x70072}, id="decrypts"),
        pytest.param({"attributes": 0x50070}, id="leaves its TPM"),
        pytest.param({"attributes": 0x50062}, id="leaves its parent"),
        pytest.param({"attributes": 0x50052}, id="made outside"),
        pytest.param({"attributes": 0xD0072}, id="signs certificates"),
        pytest.param({"attributes": 0}, id="nothing"),
        pytest.param({"scheme": tpm.NO_SCHEME}, id="any scheme"),
        pytest.param({"scheme": tpm.Scheme(algorithm=tpm.ALG_ECDSA, parameters=(tpm.ALG_SHA1,))},
                     id="SHA-1"),
        pytest.param({"name_hash": tpm.ALG_SHA1}, id="Name by SHA-1"),
        pytest.param({"size": tpm.CURVE_P384}, id="another curve"),
        pytest.param({"symmetric": tpm.AES_128_CFB}, id="a storage key"),
        pytest.param({"unique": (bytes(32), bytes(32))}, id="no point of the curve"),
        pytest.param({"unique": (b"", b"")}, id="no point"),
    ],
)  # fmt: skip
def test_093_another_kind_of_attestation_key(changes: dict[str, Any]) -> None:
    node = SimulatedNode()
    enrol = node.enrol_message(ak_public=ecc_public(node.tpm.ak_key, **changes).encode())
    assert why(enrol) == {Reason.ENROL_AK}


@pytest.mark.attack(number=93, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("encoded", [b"", b"-----BEGIN PUBLIC KEY-----\n", bytes(100)])
def test_093_an_attestation_key_in_another_form(encoded: bytes) -> None:
    with pytest.raises(Malformed):
        judge(SimulatedNode().enrol_message(ak_public=encoded))


@pytest.mark.attack(number=93, attacker=BENCH, asset=NODE)
def test_093_an_activation_for_another_key(node: SimulatedNode) -> None:
    """The Name is computed from the public area here: the TPM opens nothing for another one."""
    software = node.enrol_message(ak_public=ecc_public(private_key("software")).encode())
    judged = judge(software)
    with pytest.raises(ValueError, match="TPM_RC_INTEGRITY"):
        node.answer(activation(node, judged))


@pytest.mark.attack(number=93, attacker=BENCH, asset=NODE)
def test_093_an_activation_opened_by_another_tpm(node: SimulatedNode) -> None:
    made = activation(node, judge(node.enrol_message()))
    with pytest.raises(ValueError, match=r"TPM_RC_INTEGRITY|Decryption|EC key"):
        SimulatedNode("bench", ek="ecc").answer(made)


@pytest.mark.attack(number=120, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    "inventory",
    [
        pytest.param((), id="empty"),
        pytest.param(
            (Allowed(ek_hash="0" * 64, node="build-9"),), id="another EK, for another name"
        ),
        pytest.param(None, id="the EK for another name"),
    ],
)
def test_120_a_genuine_tpm_that_is_not_ours(
    node: SimulatedNode, inventory: tuple[Allowed, ...] | None
) -> None:
    """Its certificate chains to a trusted root: it is known, pending, and gets nothing."""
    enrol = node.enrol_message()
    other = (Allowed(ek_hash=ek_hash(enrol.ek_public), node="build-8"),)
    judged = judge(enrol, inventory=other if inventory is None else inventory)
    assert not judged.is_allowed
    assert [one.reason for one in judged.reported] == [Reason.ENROL_EK_NOT_IN_INVENTORY]


@pytest.mark.attack(number=120, attacker=BENCH, asset=NODE)
def test_120_the_inventory_stands_where_the_chain_is_not_asked_for(node: SimulatedNode) -> None:
    enrol = node.enrol_message(ek_certificate=b"")
    assert judge(enrol, trust=NO_TRUST, require_certificate=False).is_allowed
    judged = judge(enrol, trust=NO_TRUST, require_certificate=False, inventory=())
    assert not judged.is_allowed


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"end": datetime(2021, 1, 1, tzinfo=UTC)}, Reason.EK_EXPIRED, id="expired"),
        pytest.param({"usage": "2.23.133.8.3"}, Reason.EK_USAGE, id="EKU of an AK"),
        pytest.param({"usage": "1.3.6.1.5.5.7.3.2"}, Reason.EK_USAGE, id="EKU of a TLS client"),
        pytest.param({"ca": True}, Reason.EK_CA, id="of a CA"),
    ],
)
def test_101_a_certificate_that_is_no_ek_certificate_of_now(
    node: SimulatedNode, changes: dict[str, Any], reason: Reason
) -> None:
    certificate = MANUFACTURER.certify(node.tpm.ek_key.public_key(), **changes)
    reasons = why(node.enrol_message(ek_certificate=certificate))
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, reason}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
def test_101_a_certificate_that_is_not_valid_yet(node: SimulatedNode) -> None:
    then = datetime(2019, 1, 1, tzinfo=UTC)
    reasons = why(node.enrol_message(), now=then)
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_NOT_YET}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
def test_101_a_root_of_the_same_name(node: SimulatedNode) -> None:
    alike = SimulatedManufacturer()
    alike.key = private_key("look-alike")
    certificate = alike.certify(node.tpm.ek_key.public_key())
    reasons = why(node.enrol_message(ek_certificate=certificate))
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_SIGNATURE}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
def test_101_no_root_that_fits(node: SimulatedNode) -> None:
    other = Trust(roots=(Certificate.decode(SimulatedManufacturer("other").root()),))
    reasons = why(node.enrol_message(), trust=other)
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_CHAIN}
    reasons = why(node.enrol_message(), trust=NO_TRUST)
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_NO_ROOTS}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
def test_101_intermediates_from_the_chip_count_under_a_root_alone(node: SimulatedNode) -> None:
    """What a node sends may complete a chain, and never begins one."""
    root = found("a maker's root")
    middle = found("a maker's CA", root)
    certificate = certify(middle, node.tpm.ek_key.public_key())
    enrol = node.enrol_message(ek_certificate=certificate, ek_intermediates=(middle.der,))
    assert judge(enrol, trust=trusting([root])).is_allowed
    assert why(enrol) == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_CHAIN}
    own = node.enrol_message(ek_certificate=certificate, ek_intermediates=(middle.der, root.der))
    assert why(own) == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_ROOT}
    without = replace(enrol, ek_intermediates=())
    reasons = {Reason.ENROL_EK_CERTIFICATE, Reason.EK_CHAIN}
    assert why(without, trust=trusting([root])) == reasons
    bent = replace(enrol, ek_intermediates=(b"junk",))
    assert why(bent, trust=trusting([root])) == reasons
    more = replace(enrol, ek_intermediates=(b"junk", middle.der))
    assert judge(more, trust=trusting([root])).is_allowed
    many = replace(enrol, ek_intermediates=(middle.der,) * 17)
    reasons = {Reason.ENROL_EK_CERTIFICATE, Reason.EK_CHAIN_WORK}
    assert why(many, trust=trusting([root])) == reasons


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize("required", [True, False])
def test_101_a_certificate_of_another_ek(node: SimulatedNode, *, required: bool) -> None:
    certificate = SimulatedNode("bench").ek_certificate()
    enrol = node.enrol_message(ek_certificate=certificate)
    assert why(enrol, require_certificate=required) == {Reason.ENROL_EK_CERTIFICATE_KEY}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda one: one[:-1], id="cut short"),
        pytest.param(lambda one: one + b"\xff", id="padded"),
        pytest.param(lambda _: b"junk", id="junk"),
        pytest.param(lambda _: MANUFACTURER.root()[:100], id="part of another"),
    ],
)
def test_101_a_certificate_that_is_none(node: SimulatedNode, bend: Any) -> None:
    enrol = node.enrol_message(ek_certificate=bend(node.ek_certificate()))
    assert why(enrol) == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_UNREADABLE}
    assert judge(enrol, require_certificate=False).is_allowed


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), id="Ed25519"),
        pytest.param(ec.derive_private_key(7, ec.SECP256K1()), id="another curve"),
    ],
)
def test_101_a_certificate_whose_key_no_tpm_has(node: SimulatedNode, key: Any) -> None:
    """The chain holds, and yet nobody knows for which key."""
    certificate = MANUFACTURER.certify(key.public_key())
    reasons = why(node.enrol_message(ek_certificate=certificate))
    assert reasons == {Reason.ENROL_EK_CERTIFICATE, Reason.EK_KEY}


def test_a_certificate_that_nobody_asked_for_need_not_chain(node: SimulatedNode) -> None:
    """The inventory alone decides, where the operator has said so."""
    certificate = SimulatedManufacturer("unknown").certify(node.tpm.ek_key.public_key())
    enrol = node.enrol_message(ek_certificate=certificate)
    assert judge(enrol, require_certificate=False).is_allowed
    assert not judge(enrol, require_certificate=False, inventory=()).is_allowed


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
def test_101_a_missing_certificate(node: SimulatedNode) -> None:
    enrol = node.enrol_message(ek_certificate=b"")
    assert why(enrol) == {Reason.ENROL_EK_CERTIFICATE_MISSING}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"attributes": 0x300B0}, id="leaves its TPM"),
        pytest.param({"attributes": 0x300F2}, id="auth alone"),
        pytest.param({"attributes": 0x200B2}, id="not restricted"),
        pytest.param({"policy": b""}, id="no policy"),
        pytest.param({"policy": bytes(32)}, id="another policy"),
        pytest.param({"symmetric": tpm.NO_SCHEME}, id="protects nothing"),
        pytest.param({"name_hash": tpm.ALG_SHA384}, id="Name by SHA-384"),
        pytest.param({"size": tpm.CURVE_P384}, id="another curve"),
        pytest.param({"unique": (bytes(32), bytes(32))}, id="no point of the curve"),
    ],
)
def test_101_an_ek_of_another_template(changes: dict[str, Any]) -> None:
    node = SimulatedNode()
    bent = ecc_public(private_key("tpm of build-7 ek"), **(EK | changes))
    assert why(node.enrol_message(ek_public=bent.encode())) == {Reason.ENROL_EK_TEMPLATE}


@pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"size": 1024}, id="1024 bits"),
        pytest.param({"exponent": 3}, id="exponent 3"),
        pytest.param({"unique": (b"\xff" * 255,)}, id="short modulus"),
        pytest.param({"unique": (b"\xff" * 255 + b"\xfe",)}, id="even modulus"),
        pytest.param({"unique": (b"\x01" * 256,)}, id="modulus with leading zeros"),
    ],
)
def test_101_an_rsa_ek_of_another_template(changes: dict[str, Any]) -> None:
    node = SimulatedNode(ek="rsa")
    assert isinstance(node.tpm.ek_key, rsa.RSAPrivateKey)
    bent = replace(node.tpm.ek, **changes)
    assert why(node.enrol_message(ek_public=bent.encode())) == {Reason.ENROL_EK_TEMPLATE}


@pytest.mark.attack(number=107, attacker=NETWORK, asset="logs and paths")
@pytest.mark.parametrize(
    "name",
    ["", "A", "build-7\n", "../x", "a/b", "-a", "a-", ".", "a b", "ä", "a\x1b[31m", "x" * 64],
)
def test_107_a_name_that_is_more_than_a_name(name: str) -> None:
    assert why(SimulatedNode().enrol_message(node=name)) == {Reason.ENROL_NAME}
