"""Attacks on the manufacturer's word: certificates that vouch for nothing.

Every test changes one thing of a chain that holds (`test_an_honest_chain`).
"""

from dataclasses import replace
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier

from evidence import Malformed
from evidence.certificate import Certificate
from tests.makers import (
    Maker,
    certify,
    device,
    distinguished,
    found,
    key_usage,
    over_sha1,
    trusting,
    verify,
)
from tests.simulated_keys import private_key
from tests.simulated_node import NOW
from verifier import Reason, Rejected
from verifier.crypto import certified_keys
from verifier.endorsement import DEEPEST, MOST_SIGNATURES, Trust, read_ek_certificate

BENCH = "the owner of another TPM"
NODE = "the node's identity"
VERIFIER = "the verifier's time and memory"

attack = pytest.mark.attack(number=101, attacker=BENCH, asset=NODE)

ROOT = found("Maker root")
CA = found("Maker CA 1", ROOT)
TRUST = trusting([ROOT], [CA])
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\0")


def why(der: bytes, trust: Trust = TRUST, at: datetime = NOW) -> set[Reason]:
    """Return why the certificate is refused."""
    with pytest.raises(Rejected) as rejection:
        verify(der, trust, at)
    return {one.reason for one in rejection.value.findings}


def names(**constraints: list[x509.GeneralName]) -> tuple[x509.NameConstraints, bool]:
    """Return name constraints, critical."""
    both: dict[str, Any] = {"permitted_subtrees": None, "excluded_subtrees": None}
    return x509.NameConstraints(**(both | constraints)), True


def directory(*parts: tuple[ObjectIdentifier, str]) -> list[x509.GeneralName]:
    return [x509.DirectoryName(distinguished(*parts))]


def test_an_honest_chain() -> None:
    endorsement = verify(certify(CA), TRUST)
    assert [one.subject.value("2.5.4.3") for one in endorsement.chain] == [
        None, "Maker CA 1", "Maker root",
    ]  # fmt: skip
    assert endorsement.device.manufacturer == "id:49424D00"
    assert endorsement.notes == ()
    assert verify(certify(ROOT), trusting([ROOT])).chain[-1].der == ROOT.der


@attack
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"end": datetime(2021, 1, 1, tzinfo=UTC)}, Reason.EK_EXPIRED, id="expired"),
        pytest.param(
            {"start": datetime(2040, 1, 1, tzinfo=UTC)}, Reason.EK_NOT_YET, id="not yet valid"
        ),
        pytest.param({"extended": None}, Reason.EK_USAGE, id="no usage"),
        pytest.param(
            {"extended": (x509.ExtendedKeyUsage([ObjectIdentifier("2.23.133.8.3")]), True)},
            Reason.EK_USAGE,
            id="usage of an AK",
        ),
        pytest.param(
            {"extended": (x509.ExtendedKeyUsage([ObjectIdentifier("2.5.29.37.0")]), True)},
            Reason.EK_USAGE,
            id="any usage",
        ),
        pytest.param(
            {"constraints": (x509.BasicConstraints(ca=True, path_length=None), True)},
            Reason.EK_CA,
            id="of a CA",
        ),
        pytest.param(
            {"usage": (key_usage("key_cert_sign"), True)}, Reason.EK_CA, id="signs certificates"
        ),
        pytest.param({"names": []}, Reason.EK_MANUFACTURER, id="no names"),
        pytest.param(
            {"names": [x509.DNSName("tpm.example")]}, Reason.EK_MANUFACTURER, id="a DNS name"
        ),
        pytest.param({"device": distinguished("tpm")}, Reason.EK_MANUFACTURER, id="no maker"),
        pytest.param({"more": [(UNKNOWN, True)]}, Reason.EK_EXTENSION, id="unknown extension"),
        pytest.param({"signer": private_key("x")}, Reason.EK_SIGNATURE, id="another's signature"),
        pytest.param(
            {
                "authority_key": (
                    x509.AuthorityKeyIdentifier(b"another key", None, None),
                    False,
                )
            },
            Reason.EK_ISSUER_KEY,
            id="of another key of the CA",
        ),
        pytest.param(
            {"key": ec.derive_private_key(7, ec.SECP256K1()).public_key()},
            Reason.EK_KEY,
            id="a curve of no TPM",
        ),
        pytest.param({"hash_": hashes.SHA3_256()}, Reason.EK_ALGORITHM, id="signed by SHA-3"),
    ],
)
def test_101_a_certificate_that_is_not_an_eks(changes: dict[str, Any], reason: Reason) -> None:
    assert why(certify(CA, **changes)) == {reason}


@attack
def test_101_an_unknown_extension_that_is_not_critical_is_passed_over() -> None:
    assert verify(certify(CA, more=[(UNKNOWN, False)]), TRUST)


@attack
def test_101_no_chain() -> None:
    ek = certify(CA)
    assert why(ek, trusting([ROOT])) == {Reason.EK_CHAIN}
    assert why(ek, trusting([], [CA, ROOT])) == {Reason.EK_NO_ROOTS}
    assert why(ek, trusting([found("another root")], [CA, ROOT])) == {Reason.EK_ROOT}
    assert why(certify(found("unknown"))) == {Reason.EK_CHAIN}
    own = Maker(name=distinguished("own"), key=private_key("own"), der=b"")
    assert why(certify(own, subject=own.name)) == {Reason.EK_ROOT}


@attack
def test_101_a_root_that_looks_alike() -> None:
    """The same name, another key; with the same key identifier too, which is only a number."""
    alike = found("Maker root", seed="look-alike")
    assert alike.name == ROOT.name
    assert why(certify(alike), trusting([ROOT])) == {Reason.EK_ISSUER_KEY}
    claimed = x509.AuthorityKeyIdentifier.from_issuer_public_key(ROOT.key.public_key())
    forged = certify(alike, authority_key=(claimed, False))
    assert why(forged, trusting([ROOT])) == {Reason.EK_SIGNATURE}
    assert why(forged, trusting([ROOT], [alike])) == {
        Reason.EK_SIGNATURE, Reason.EK_ISSUER_KEY,
    }  # fmt: skip
    assert verify(certify(ROOT), trusting([alike, ROOT])).chain[-1].der == ROOT.der


@attack
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"end": datetime(2021, 1, 1, tzinfo=UTC)}, Reason.EK_EXPIRED, id="expired"),
        pytest.param(
            {"start": datetime(2040, 1, 1, tzinfo=UTC)}, Reason.EK_NOT_YET, id="not yet valid"
        ),
        pytest.param({"constraints": None}, Reason.EK_ISSUER, id="not said to be a CA"),
        pytest.param(
            {"constraints": (x509.BasicConstraints(ca=False, path_length=None), True)},
            Reason.EK_ISSUER,
            id="no CA",
        ),
        pytest.param(
            {"usage": (key_usage("digital_signature"), True)},
            Reason.EK_ISSUER,
            id="key not for certificates",
        ),
        pytest.param(
            {"more": [(x509.ExtendedKeyUsage([ObjectIdentifier("1.3.6.1.5.5.7.3.1")]), False)]},
            Reason.EK_ISSUER_USAGE,
            id="for TLS servers",
        ),
        pytest.param({"more": [(UNKNOWN, True)]}, Reason.EK_EXTENSION, id="unknown extension"),
        pytest.param({"signer": private_key("x")}, Reason.EK_SIGNATURE, id="not the root's"),
        pytest.param(
            {"more": [names(excluded_subtrees=[x509.DNSName("example")])]},
            Reason.EK_NAME,
            id="constraint on names of another form",
        ),
        pytest.param(
            {"more": [names(permitted_subtrees=directory((NameOID.ORGANIZATION_NAME, "Other")))]},
            Reason.EK_NAME,
            id="other names permitted",
        ),
    ],
)
def test_101_a_ca_that_may_not(changes: dict[str, Any], reason: Reason) -> None:
    bad = found("Maker CA 2", ROOT, **changes)
    assert why(certify(bad), trusting([ROOT], [bad])) == {reason}


@attack
def test_101_the_same_holds_of_a_root() -> None:
    old = found("old root", end=datetime(2021, 1, 1, tzinfo=UTC))
    assert why(certify(old), trusting([old])) == {Reason.EK_EXPIRED}
    none = found("no CA", constraints=None)
    assert why(certify(none), trusting([none])) == {Reason.EK_ISSUER}


@attack
def test_101_more_cas_than_the_root_allows() -> None:
    one = (x509.BasicConstraints(ca=True, path_length=0), True)
    root = found("short root", constraints=one)
    first = found("first", root)
    second = found("second", first)
    assert verify(certify(root), trusting([root]))
    assert why(certify(first), trusting([root], [first])) == {Reason.EK_PATH_LENGTH}
    assert why(certify(second), trusting([root], [first, second])) == {Reason.EK_PATH_LENGTH}


O, CN, C = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME, NameOID.COUNTRY_NAME  # noqa: E741


@attack
@pytest.mark.parametrize(
    ("constraints", "subject", "is_within"),
    [
        pytest.param({"permitted_subtrees": directory((O, "ST"))}, [(O, "ST")], True, id="in"),
        pytest.param(
            {"permitted_subtrees": directory((O, "ST"))}, [(O, "st"), (CN, "x")], True, id="below"
        ),
        pytest.param(
            {"permitted_subtrees": directory((O, "ST"))}, [(CN, "x"), (O, "ST")], False, id="order"
        ),
        pytest.param(
            {"permitted_subtrees": directory((O, "ST"), (CN, "x"))}, [(O, "ST")], False, id="above"
        ),
        pytest.param(
            {"permitted_subtrees": directory((O, "ST"))}, [(O, "STM")], False, id="longer"
        ),
        pytest.param({"excluded_subtrees": directory((O, "ST"))}, [(O, "STM")], True, id="free"),
        pytest.param({"excluded_subtrees": directory((O, "ST"))}, [(O, "ST")], False, id="not"),
        pytest.param(
            {"excluded_subtrees": directory((O, "S T"))}, [(O, " s  T")], False, id="case, spaces"
        ),
        pytest.param(
            {"excluded_subtrees": directory((O, "ST"))}, [(O, "\uff33\uff34")], False, id="width"
        ),
        pytest.param(
            {
                "permitted_subtrees": directory((O, "ST")),
                "excluded_subtrees": directory((O, "ST"), (CN, "x")),
            },
            [(O, "ST"), (CN, "x")],
            False,
            id="permitted and excluded",
        ),
    ],
)
def test_101_a_ca_whose_names_are_constrained(
    constraints: dict[str, Any], subject: list[tuple[ObjectIdentifier, str]], *, is_within: bool
) -> None:
    """The maker's name is one that counts: there it is in the subject, so that it can fit."""
    root = found("constraining root", more=[names(**constraints)])
    ek = certify(
        root,
        subject=distinguished(*subject),
        device=x509.Name([*distinguished(*subject), *device()]),
    )
    if is_within:
        assert verify(ek, trusting([root]))
    else:
        assert why(ek, trusting([root])) == {Reason.EK_NAME}


@attack
def test_101_constraints_hold_for_every_certificate_below() -> None:
    root = found("root", more=[names(excluded_subtrees=directory((O, "Evil")))])
    evil = found(distinguished((O, "Evil")), root)
    assert why(certify(evil), trusting([root], [evil])) == {Reason.EK_NAME}


@attack
def test_101_text_that_cannot_be_read_is_not_known_to_be_outside() -> None:
    root = found("root", more=[names(excluded_subtrees=directory((O, "Evil")))])
    honest = distinguished((O, "Good"))
    assert verify(certify(root, subject=honest), trusting([root]))
    unread = x509.Name([x509.NameAttribute(O, "Good", _ASN1Type.UniversalString)])
    assert why(certify(root, subject=unread), trusting([root])) == {Reason.EK_NAME}


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA_ROOT = found("RSA root", key=RSA_KEY)


@attack
def test_101_a_signature_over_sha1() -> None:
    """The CA's, or that of the CA above it; of a root none is asked for."""
    ek = over_sha1(certify(RSA_ROOT), RSA_KEY)
    assert why(ek, trusting([RSA_ROOT])) == {Reason.EK_SHA1}
    assert verify(ek, trusting([RSA_ROOT], allow_sha1=True))
    strong = found("CA of old", RSA_ROOT)
    weak = replace(strong, der=over_sha1(strong.der, RSA_KEY))
    assert why(certify(weak), trusting([RSA_ROOT], [weak])) == {Reason.EK_SHA1}
    assert verify(certify(weak), trusting([RSA_ROOT], [weak], allow_sha1=True))
    assert len(verify(certify(weak), trusting([weak, RSA_ROOT])).chain) == 2


@attack
def test_101_a_key_of_a_flawed_generator() -> None:
    """CVE-2017-15361: the modulus is a power of 65537 modulo each small prime."""
    primes = [n for n in range(2, 168) if all(n % m for m in range(2, n))]
    product = 1
    for prime in primes:
        product *= prime
    modulus = pow(65537, 4242, product) + product * ((1 << 2047) // product + 1)
    key = rsa.RSAPublicNumbers(65537, modulus | 0).public_key()
    assert key.key_size == 2048
    assert why(certify(CA, key)) == {Reason.EK_KEY_FACTORABLE}
    assert not certified_keys.is_factorable(
        Certificate.decode(certify(CA, RSA_KEY.public_key())).spki
    )


@attack
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(rsa.RSAPublicNumbers(65537, (1 << 1023) + 1), id="1024 bits"),
        pytest.param(rsa.RSAPublicNumbers(65537, (1 << 9000) + 1), id="9001 bits"),
        pytest.param(rsa.RSAPublicNumbers((1 << 33) + 1, (1 << 2047) + 1), id="long exponent"),
    ],
)
def test_101_an_rsa_key_of_another_size(key: rsa.RSAPublicNumbers) -> None:
    assert why(certify(CA, key.public_key())) == {Reason.EK_KEY}


@attack
def test_101_an_attestation_keys_certificate_is_noted() -> None:
    """Google's AKs have the usage of EKs; the public area says which of them a key is."""
    notes = verify(certify(CA, usage=(key_usage("digital_signature"), True)), TRUST).notes
    assert [one.reason for one in notes] == [Reason.EK_SIGNER]


@attack
def test_101_a_maker_that_the_registry_does_not_know_is_noted() -> None:
    for number in ("id:00001014", "id:12", "STM", "id:53544D2"):
        notes = verify(certify(CA, device=device(number=number)), TRUST).notes
        assert [one.reason for one in notes] == [Reason.EK_MANUFACTURER_UNKNOWN]


@attack
def test_101_words_of_a_certificate_are_no_terminal_commands() -> None:
    ek = verify(certify(CA, device=device(model="\x1b[31m" + "x" * 400)), TRUST)
    assert "\x1b" not in ek.device.model
    assert len(ek.device.model) < 300


chain_attack = pytest.mark.attack(number=101, attacker=BENCH, asset=VERIFIER)


@chain_attack
def test_101_a_chain_that_is_too_long() -> None:
    makers = [found("long root")]
    for number in range(DEEPEST):
        makers.append(found(f"CA {number}", makers[-1]))
    root, *middle = makers
    fits = makers[DEEPEST - 2]
    assert len(verify(certify(fits), trusting([root], middle)).chain) == DEEPEST
    longer = certify(makers[DEEPEST - 1])
    assert why(longer, trusting([root], middle)) == {Reason.EK_CHAIN_LONG}


@chain_attack
def test_101_a_chain_in_a_circle() -> None:
    first = found("circle 1")
    second = found("circle 2", first)
    closed = found("circle 1", second)
    assert why(certify(second), trusting([ROOT], [closed, second])) == {Reason.EK_CHAIN}
    assert why(certify(second), trusting([ROOT], [closed, second, first])) == {Reason.EK_CHAIN}


@chain_attack
def test_101_a_thousand_roots_that_look_alike() -> None:
    """No key identifiers: each could be the issuer, and only a signature can say."""
    without: dict[str, Any] = {"subject_key": None}
    alike = [found("Maker root", seed=f"{n}", **without) for n in range(1000)]
    ek = certify(ROOT, authority_key=None)
    trust = trusting(alike)
    leaf = Certificate.decode(ek)
    assert leaf.authority_key == b""
    start = process_time()
    reasons = why(ek, trust)
    assert process_time() - start < 5
    assert reasons == {Reason.EK_SIGNATURE, Reason.EK_CHAIN_WORK}
    assert verify(ek, trusting([*alike[: MOST_SIGNATURES - 1], ROOT]))


@chain_attack
def test_101_cas_that_look_alike_multiply_nothing() -> None:
    """Ten of each name at every step: ten to the sixth chains, and one bound for all of them."""
    levels = [[found("level 0", seed=f"0 {n}", subject_key=None) for n in range(10)]]
    for level in range(1, 6):
        issuer = levels[-1][0]
        levels.append(
            [
                found(f"level {level}", issuer, seed=f"{level} 0", subject_key=None, start=day)
                for day in (datetime(2020, 1, 1 + n, tzinfo=UTC) for n in range(10))
            ]
        )
    ek = certify(levels[-1][0], authority_key=None)
    start = process_time()
    reasons = why(ek, trusting([ROOT], [one for level in levels for one in level]))
    assert process_time() - start < 5
    assert Reason.EK_CHAIN_WORK in reasons


@attack
def test_101_a_certificate_of_attributes() -> None:
    for data in (b"junk", b"", b"\x30\x00", certify(CA)[:-1]):
        with pytest.raises(Malformed):
            read_ek_certificate(data)
