"""Files that somebody has signed: known by the signature, or refused with a reason."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evidence.file_signature import OVER_DIGEST, OVER_FILE_ID
from evidence.ima import Record, read_measurement, read_records
from evidence.ima_ascii import read_ascii_records
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_signer import SimulatedSigner, make_key, public_pem
from verifier import Reason, Rejected
from verifier.crypto import file_keys
from verifier.file_signature import verify_file_signature
from verifier.node import Measured
from verifier.policy import FileKey, Signer
from verifier.reference import read_reference_value, read_signer

DIGESTS = {"sha1": b"1" * 20, "sha256": b"2" * 32, "sha384": b"3" * 48, "sha512": b"5" * 64}


def measured(
    signature: bytes, *, digest: bytes = DIGESTS["sha256"], kind: str = "sha256", path: str = ""
) -> Measured:
    return Measured(
        register=10,
        algorithm=kind,
        digest=digest,
        path=(path or "/usr/bin/x").encode(),
        template="ima-sig",
        signature=signature,
    )


def refusal(one: Measured, *signers: Signer) -> Reason:
    with pytest.raises(Rejected) as rejection:
        verify_file_signature(one, what="x", signers=signers)
    (finding,) = rejection.value.findings
    return finding.reason


VENDOR = SimulatedSigner()
SIGNATURE = VENDOR.signature(DIGESTS["sha256"])

# What holds


@pytest.mark.parametrize("kind", ["rsa2048", "rsa3072", "secp256r1", "secp384r1", "secp521r1"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(
    ("version", "is_verity"), [(OVER_DIGEST, False), (OVER_FILE_ID, False), (OVER_FILE_ID, True)]
)
def test_a_signature_that_holds(
    kind: str, algorithm: str, version: int, *, is_verity: bool
) -> None:
    vendor = SimulatedSigner(kind=kind)
    digest = DIGESTS[algorithm]
    signature = vendor.signature(digest, algorithm=algorithm, version=version, is_verity=is_verity)
    listed = f"verity:{algorithm}" if is_verity else algorithm
    one = measured(signature, digest=digest, kind=listed)
    assert verify_file_signature(one, what="x", signers=[vendor.value()]) == (vendor.value(),)

    other = SimulatedSigner("other", kind=kind, seed="other")
    assert refusal(one, other.value()) == Reason.LIST_SIGNATURE_KEY
    assert refusal(one) == Reason.LIST_SIGNATURE_KEY
    changed = replace(one, digest=b"?" + digest[1:])
    assert refusal(changed, vendor.value()) == Reason.LIST_SIGNATURE
    bent = replace(one, signature=signature[:-1] + bytes([signature[-1] ^ 1]))
    assert refusal(bent, vendor.value()) == Reason.LIST_SIGNATURE
    relabelled = replace(one, algorithm="sha256" if is_verity else f"verity:{algorithm}")
    assert refusal(relabelled, vendor.value()) == Reason.LIST_SIGNATURE_ALGORITHM


def test_a_signature_under_the_key_id_of_another() -> None:
    """The id is a hint: the key of the signer it names has to have signed."""
    other = SimulatedSigner("other", kind="secp256r1")
    forged = SIGNATURE[:3] + file_keys.file_key_id(file_keys.file_key(other.pem)) + SIGNATURE[7:]
    assert refusal(measured(forged), VENDOR.value(), other.value()) == Reason.LIST_SIGNATURE


def test_everybody_who_has_signed_is_named() -> None:
    """The same key in two documents: each allows what its own paths do."""
    one = measured(SIGNATURE)
    second = SimulatedSigner("second").value(paths=("usr/bin/x",))
    third = SimulatedSigner("third").value(paths=("opt/",))
    signers = [VENDOR.value(), second, third]
    assert verify_file_signature(one, what="x", signers=signers) == (VENDOR.value(), second)


def test_one_version_is_no_other() -> None:
    """A signature over the digest is none over what kind of digest it is, and the other way."""
    for version in (OVER_DIGEST, OVER_FILE_ID):
        signature = bytearray(VENDOR.signature(DIGESTS["sha256"], version=version))
        signature[1] = OVER_DIGEST + OVER_FILE_ID - version
        assert refusal(measured(bytes(signature)), VENDOR.value()) == Reason.LIST_SIGNATURE


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(SIGNATURE[:-1], id="cut"),
        pytest.param(SIGNATURE + b"\0", id="a byte more"),
        pytest.param(b"\5" + SIGNATURE[1:], id="of the metadata"),
        pytest.param(b"\4\4" + DIGESTS["sha256"], id="a hash"),
    ],
)
def test_what_is_no_signature(signature: bytes) -> None:
    assert refusal(measured(signature), VENDOR.value()) == Reason.LIST_SIGNATURE_FORM


def test_a_weak_hash() -> None:
    """Signed with SHA-1, by the right key: whoever finds a collision has two signed files."""
    signature = VENDOR.signature(DIGESTS["sha1"], algorithm="sha1")
    one = measured(signature, digest=DIGESTS["sha1"], kind="sha1")
    assert refusal(one, VENDOR.value()) == Reason.LIST_SIGNATURE_ALGORITHM


# Places


@pytest.mark.parametrize(
    ("path", "is_allowed"),
    [
        ("/usr/bin/x", True),
        ("/usr/bin/deep/x", True),
        ("/usr/bin/x_(deleted)", True),
        ("/opt/a_b/x", True),
        ("/etc/one", True),
        ("/etc/one/more", False),
        ("/etc/one.bak", False),
        ("/usr/bin", False),
        ("/usr/bin/", False),
        ("/usr/binary/x", False),
        ("/usr/bin/../../tmp/x", False),
        ("/usr/bin/..", False),
        ("/usr/bin/./x", False),
        ("//usr/bin/x", False),
        ("/usr//bin/x", False),
        ("/tmp/usr/bin/x", False),
        ("usr/bin/x", False),
        ("memfd:usr/bin/x", False),
        ("x", False),
        ("/", False),
        ("/USR/BIN/x", False),
        ("/tmp/a\n/usr/bin/x", False),
    ],
)
def test_where_a_signed_file_may_lie(path: str, *, is_allowed: bool) -> None:
    signer = VENDOR.value(paths=("usr/bin/", "etc/one", "opt/a b/"))
    one = measured(SIGNATURE, path=path)
    if is_allowed:
        assert verify_file_signature(one, what="x", signers=[signer]) == (signer,)
    else:
        assert refusal(one, signer) == Reason.LIST_SIGNATURE_PATH


# Keys and documents


def refused(text: str) -> str:
    with pytest.raises(Rejected) as rejection:
        read_signer(text)
    (finding,) = rejection.value.findings
    assert finding.reason == Reason.POLICY_INVALID
    return f"{finding.what} | {finding.expected} | {finding.found}"


def test_a_signer_as_it_is_written() -> None:
    text = VENDOR.toml(revoked=(f"sha256:{'ab' * 32}", f"verity:sha512:{'cd' * 64}"))
    signer = read_signer(text)
    assert read_reference_value(text) == signer
    assert (signer.name, signer.paths) == ("vendor", ("usr/bin/", "usr/lib/"))
    assert [one.key_id for one in signer.keys] == [SIGNATURE[3:7]]
    assert signer.revoked == {f"sha256:{'ab' * 32}", f"verity:sha512:{'cd' * 64}"}
    assert signer.counts_on("any")
    elsewhere = VENDOR.value(nodes=("build-7",))
    assert (elsewhere.counts_on("build-7"), elsewhere.counts_on("build-8")) == (True, False)


@pytest.mark.parametrize(
    ("old", "new", "speaks_of"),
    [
        ('kind = "signer"', 'kind = "files"', "kind"),
        ('kind = "signer"', "", "kind"),
        ('kind = "signer"', 'kind = "signer"\nfiles = {}', "files"),
        ('kind = "signer"', 'kind = "signer"\nkey = "x"', "key"),
        ('name = "vendor"', 'name = "Vendor"', "name"),
        ('name = "vendor"', 'name = "vendor"\nnodes = []', "nodes"),
        ('name = "vendor"', 'name = "vendor"\nrevoked = ["sha1:00"]', "revoked"),
        ('name = "vendor"', f'name = "vendor"\nrevoked = ["sha256:{"AB" * 32}"]', "revoked"),
        ('name = "vendor"', f'name = "vendor"\nrevoked = ["sha512:{"ab" * 32}"]', "revoked"),
        ('paths = ["usr/bin/", "usr/lib/"]', "", "paths"),
        ('paths = ["usr/bin/", "usr/lib/"]', "paths = []", "paths"),
        ("usr/bin/", "/usr/bin/", "paths"),
        ("usr/bin/", "", "paths"),
        ("usr/bin/", "/", "paths"),
        ("usr/bin/", "usr/bin//", "paths"),
        ("usr/bin/", "usr/../bin/", "paths"),
        ("usr/bin/", "../", "paths"),
        ("usr/bin/", "usr/bin/*", "paths"),
        ("usr/bin/", "usr/b?n/", "paths"),
        ("usr/bin/", "usr/[a-z]/", "paths"),
        ("usr/bin/", "usr/lib/", "paths"),
    ],
)
def test_a_signer_that_is_not_read(old: str, new: str, speaks_of: str) -> None:
    text = VENDOR.toml()
    assert old in text
    assert speaks_of in refused(text.replace(old, new, 1))


def with_keys(*pems: str) -> str:
    signer = SimulatedSigner()
    lines = [one for one in signer.toml().splitlines() if not one.startswith("keys")]
    keys = ", ".join(f'"""{pem}"""' for pem in pems)
    return "\n".join([*lines, f"keys = [{keys}]", ""])


def test_keys_that_are_refused_when_they_are_read() -> None:
    assert read_signer(with_keys(VENDOR.pem)) == VENDOR.value()
    weak = public_pem(rsa.generate_private_key(65537, 1024))
    assert "an RSA key of 1024 bits" in refused(with_keys(weak))
    odd = public_pem(rsa.generate_private_key(3, 2048))
    assert "an RSA key of exponent 3" in refused(with_keys(odd))
    koblitz = ec.generate_private_key(ec.SECP256K1())
    assert "a key on the curve secp256k1" in refused(with_keys(public_pem(koblitz)))
    body = VENDOR.pem.splitlines()[1]
    assert "no public key that can be read" in refused(with_keys(VENDOR.pem.replace(body, "")))
    assert "keys" in refused(with_keys())
    assert "keys" in refused(with_keys(VENDOR.pem, VENDOR.pem))
    assert "keys" in refused(with_keys(VENDOR.pem, VENDOR.pem + "\n"))
    private = make_key("secp256r1").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert "keys" in refused(with_keys(private.decode()))


def test_a_set_has_no_kind_and_no_keys() -> None:
    text = 'version = 1\nname = "x"\n[files]\n"usr/bin/x" = "sha256:' + "ab" * 32 + '"\n'
    assert read_reference_value(text).name == "x"
    with pytest.raises(Rejected):
        read_reference_value(f"keys = []\n{text}")


# Lists that others have published


def unchecked(name: str, spki: bytes) -> Signer:
    """Return a signer that no document makes: its key may be too short for one."""
    key = FileKey(spki=spki, key_id=file_keys.file_key_id(spki))
    return Signer(name=name, keys=(key,), paths=("usr/", "bin/", "sbin/", "lib/", "lib64/"))


def spki_of(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".der":
        key = x509.load_der_x509_certificate(data).public_key()
    else:
        key = serialization.load_pem_public_key(data)  # type: ignore[assignment]
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def outcomes(records: list[Record], signer: Signer) -> Counter[str]:
    """Return what becomes of each signature of a list: `signed`, or the reason."""
    found: Counter[str] = Counter()
    for record in records:
        measurement = read_measurement(record)
        if not measurement.signature:
            continue
        one = measured(measurement.signature, digest=measurement.digest, kind=measurement.algorithm)
        try:
            verify_file_signature(one, what="x", signers=[signer])
        except Rejected as rejected:
            found[str(rejected.findings[0].reason)] += 1
        else:
            found["signed"] += 1
    return found


@needs_vectors
def test_a_list_of_a_thousand_signed_files() -> None:
    """896 hold. One file was altered, one was signed by another key, one with SHA-1 by a third.

    The key has 1024 bits: no document may name it.
    """
    folder = VECTORS / "ibmacs"
    spki = spki_of(folder / "imakey.der")
    records = list(read_records((folder / "imasig.log").read_bytes()))
    assert outcomes(records, unchecked("pseudo", spki)) == {
        "signed": 896,
        Reason.LIST_SIGNATURE: 1,
        Reason.LIST_SIGNATURE_KEY: 1,
        Reason.LIST_SIGNATURE_ALGORITHM: 1,
    }
    pem = x509.load_der_x509_certificate((folder / "imakey.der").read_bytes()).public_key()
    assert isinstance(pem, rsa.RSAPublicKey)
    text = pem.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert "an RSA key of 1024 bits" in refused(with_keys(text.decode()))


@needs_vectors
def test_a_published_rsa_signature() -> None:
    """The other one, by an ECDSA key that nobody published, is by an unknown key."""
    folder = VECTORS / "keylime" / "ima"
    signer = read_signer(with_keys((folder / "keys" / "rsa2048pub.pem").read_text()))
    everywhere = replace(signer, paths=("usr/", "bin/"))
    data = (folder / "test_ima_verification.SIGNATURES.ascii").read_bytes()
    records = list(read_ascii_records(data, template_hash_bytes=20))
    assert outcomes(records, everywhere) == {"signed": 1, Reason.LIST_SIGNATURE_KEY: 1}


@needs_vectors
def test_a_published_bad_signature() -> None:
    folder = VECTORS / "keylime" / "ima"
    signer = unchecked("keylime", spki_of(folder / "keys" / "rsa2048pub.pem"))
    data = (folder / "test_ima_verification.BAD_SIGNATURES.ascii").read_bytes()
    records = list(read_ascii_records(data, template_hash_bytes=20))
    assert outcomes(records, signer) == {Reason.LIST_SIGNATURE_FORM: 1}


@needs_vectors
@pytest.mark.parametrize("name", ["k6.1-sha1+sha256", "k7.2-sha1+sha256"])
def test_a_junk_signature_that_a_kernel_listed(name: str) -> None:
    path = VECTORS / "kernels" / name / "binary_runtime_measurements"
    records = [
        one for one in read_records(path.read_bytes()) if b"\3\2\4\xde\xad\xbe\xef" in one.data
    ]
    assert outcomes(records, VENDOR.value()) == {Reason.LIST_SIGNATURE_KEY: 1}
