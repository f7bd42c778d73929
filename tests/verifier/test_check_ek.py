"""`verifier check-ek` over the certificates of real makers, and over what people give it."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidence import tpm
from evidence.certificate import Certificate
from tests.makers import certify, found
from tests.shared_vectors import VECTORS, needs_vectors
from verifier.__main__ import main
from verifier.certificates import read_folder
from verifier.check_ek import read_manufacturer_roots
from verifier.commands import MISUSED, NO, YES
from verifier.enrolment import ek_hash

ROOT = found("root")
CA = found("CA", ROOT)
EK = certify(CA)

STORES = ("keylime/tpm_cert_store", "ibmtss/certificates", "go-tpm-tools/ca-certs")

GOOGLE = "go-tpm-tools/certificates"
TABLE: list[Any] = [
    *(
        pytest.param(f"{GOOGLE}/uca_tpm_{kind}_enc_cert.pem", (), YES, {"ek.root-listed"})
        for kind in ("rsa", "ecc")
    ),
    *(
        pytest.param(
            f"{GOOGLE}/uca_tpm_{kind}_sign_cert.pem",
            (),
            YES,
            {"ek.key-is-for-signing", "ek.root-listed"},
        )
        for kind in ("rsa", "ecc")
    ),
    *(
        pytest.param(
            f"{GOOGLE}/pca_tpm_{kind}_cert.pem",
            (),
            NO,
            {"ek.usage-not-endorsement", "ek.manufacturer-missing"},
        )
        for kind in ("rsa_enc", "rsa_sign", "ecc_enc", "ecc_sign")
    ),
    pytest.param("keylime/certs/st_sha256_with_rsa.der", (), YES, {"ek.root-listed"}),
    pytest.param("keylime/certs/st_ecdsa_sha256.der", (), YES, {"ek.root-listed"}),
    *(
        pytest.param(f"hirs/certs/{name}", options, status, findings)
        for name in (
            "nuc-1_tpmcert.pem",
            "nuc-1_ek_cert_untouched.cer",
            "nuc-1_ek_cert_7_byte_header_removed.cer",
            "nuc-2_tpmcert.pem",
            "ab21ccf2-tpmcert.pem",
        )
        for options, status, findings in (
            ((), NO, {"ek.certificate-expired", "ek.signature-sha1"}),
            (("--at", "2020-06-01"), NO, {"ek.signature-sha1"}),
            (("--allow-sha1",), NO, {"ek.certificate-expired"}),
            (
                ("--at", "2020-06-01", "--allow-sha1"),
                YES,
                {"ek.key-is-for-oaep-only", "ek.root-listed"},
            ),
            (("--at", "2010-01-01", "--allow-sha1"), NO, {"ek.certificate-not-yet-valid"}),
        )
    ),
    pytest.param("hirs/certs/ek_cert_with_padded_bytes.cer", (), NO, {"ek.signature-sha1"}),
    pytest.param(
        "hirs/certs/ek_cert_with_padded_bytes.cer", ("--allow-sha1",), NO, {"ek.chain-incomplete"}
    ),
    pytest.param(
        "hirs/certs/ek_cert_with_security_assertions.cer",
        ("--at", "2020-06-01", "--allow-sha1"),
        NO,
        {"ek.usage-not-endorsement"},
    ),
    pytest.param(
        "keylime/certs/not_an_ek_infineon_intermediate.pem",
        ("--at", "2020-06-01", "--allow-sha1"),
        NO,
        {"ek.certificate-of-a-ca", "ek.usage-not-endorsement", "ek.manufacturer-missing"},
    ),
    pytest.param(
        "keylime/certs/nuvoton_ecdsa_sha256.der",
        (),
        NO,
        {"ek.certificate-of-a-ca", "ek.usage-not-endorsement", "ek.manufacturer-missing"},
    ),
    *(
        pytest.param(
            f"keylime/certs/{name}.der",
            ("--at", "2025-01-01"),
            NO,
            {"ek.usage-not-endorsement", "ek.manufacturer-missing"},
        )
        for name in ("idevid", "iak")
    ),
    pytest.param("keylime/certs/iak_idevid_chain.pem", (), MISUSED, {"ek.certificate-unreadable"}),
    *(
        pytest.param(
            f"go-attestation/platform-certs/{name}.cer", (), NO, {"ek.attribute-certificate"}
        )
        for name in ("Intel_nuc1", "Intel_pc1", "lenovo", "plat_cert1")
    ),
    *(
        pytest.param(
            f"{folder}/IntelSigningKey_20April2017.{suffix}",
            ("--allow-sha1",),
            NO,
            {"ek.usage-not-endorsement", "ek.manufacturer-missing"},
        )
        for folder, suffix in (("go-attestation/platform-certs", "cer"), ("hirs/certs", "pem"))
    ),
    *(
        pytest.param(
            f"generated-swtpm/{name}.cert.nv.der",
            (),
            YES,
            {"ek.manufacturer-not-in-registry", "ek.root-not-listed"},
        )
        for name in ("ek_rsa2048", "ek_ecc384")
    ),
]
"""MANIFEST section 4, a row or more each: file, options, exit status, reasons of all findings."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All the makers' certificates of the vectors in one directory."""
    directory = tmp_path_factory.mktemp("roots")
    for folder in STORES:
        for path in (VECTORS / folder).iterdir():
            shutil.copy(path, directory / f"{folder.replace('/', '-')}-{path.name}")
    for name in ("issuercert.pem", "swtpm-localca-rootca-cert.pem"):
        shutil.copy(VECTORS / "generated-swtpm" / name, directory)
    return directory


Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command with --json; return its status and its answer."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        status = main(["check-ek", "--json", *map(str, arguments)])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return status, answer

    return run


def reasons(answer: dict[str, Any]) -> set[str]:
    return {one["reason"] for one in answer["findings"]}


@needs_vectors
@pytest.mark.parametrize(("name", "options", "status", "findings"), TABLE)
def test_certificates_of_real_makers(  # noqa: PLR0913, PLR0917 - a row of the table
    ask: Ask, store: Path, name: str, options: tuple[str, ...], status: int, findings: set[str]
) -> None:
    options = options if "--at" in options else (*options, "--at", "2026-12-01")
    found_status, answer = ask(VECTORS / name, "--roots", store, *options)
    assert reasons(answer) == findings
    assert found_status == status
    verdicts = {YES: "accepted", NO: "rejected", MISUSED: "malformed"}
    assert answer["verdict"] == verdicts[status]
    assert set(answer) == {
        "verdict", "findings", "manufacturer", "model", "version", "ek_hash",
    }  # fmt: skip
    for one in answer["findings"]:
        assert set(one) == {"reason", "detail"}
        assert one["detail"]


@needs_vectors
def test_what_a_certificate_says_of_its_tpm(ask: Ask, store: Path) -> None:
    cases = {
        "keylime/certs/st_ecdsa_sha256.der": ("id:53544D20", "ST33HTPHAHB4", "id:00490004"),
        "hirs/certs/ek_cert_with_padded_bytes.cer": ("id:4E544300", "NPCT6xx", "id:0581"),
        f"{GOOGLE}/uca_tpm_rsa_enc_cert.pem": ("id:474F4F47", "vTPM", "id:20160511"),
    }
    for name, expected in cases.items():
        _, answer = ask(VECTORS / name, "--roots", store)
        assert (answer["manufacturer"], answer["model"], answer["version"]) == expected


@needs_vectors
def test_the_hash_is_the_inventorys(ask: Ask, store: Path) -> None:
    folder = VECTORS / "generated-swtpm"
    public = (folder / "ek_rsa2048.tpm2b_public").read_bytes()[2:]
    _, answer = ask(folder / "ek_rsa2048.cert.nv.der", "--roots", store)
    assert answer["ek_hash"] == ek_hash(public)
    assert tpm.Public.decode(public).type == tpm.ALG_RSA


@needs_vectors
@pytest.mark.parametrize("name", ["nuc-1_ek_cert_untouched.cer", "nuc-2_tpmcert.pem"])
def test_the_hash_of_an_oaep_key_is_that_of_the_same_key_as_rsa(
    ask: Ask, store: Path, name: str
) -> None:
    """By hand: the key's BIT STRING under rsaEncryption."""
    _, answer = ask(VECTORS / "hirs/certs" / name, "--roots", store)
    data = (VECTORS / "hirs/certs/nuc-1_ek_cert_7_byte_header_removed.cer").read_bytes()
    spki = Certificate.decode(data).spki
    bits = spki[spki.index(bytes.fromhex("0382010f00")) :]
    rsa = bytes.fromhex("30820122300d06092a864886f70d01010105000382010f00") + bits[5:]
    assert answer["ek_hash"] == hashlib.sha256(rsa).hexdigest()


@needs_vectors
def test_every_file_of_the_stores_is_read() -> None:
    for folder in STORES:
        read = read_folder(VECTORS / folder)
        assert read.findings == ()
        assert len(read.certificates) >= len(list((VECTORS / folder).iterdir()))


# The list of manufacturers' roots


def test_the_list_of_roots_is_facts() -> None:
    listed = read_manufacturer_roots()
    assert len(listed) > 20
    for fingerprint, one in listed.items():
        assert len(bytes.fromhex(fingerprint)) == 32
        assert one.published.startswith("http")
        assert one.checked
        assert one.manufacturer


@needs_vectors
def test_the_list_of_roots_is_of_certificates_that_there_are() -> None:
    listed = dict(read_manufacturer_roots())
    certificates = [one for name in STORES for one in read_folder(VECTORS / name).certificates]
    for one in certificates:
        entry = listed.pop(hashlib.sha256(one.der).hexdigest(), None)
        if entry is not None:
            assert entry.subject == one.subject.value("2.5.4.3")
            assert one.is_ca
    assert listed == {}, "listed, and in none of the collections"


# What people give it


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "roots").mkdir()
    (tmp_path / "between").mkdir()
    (tmp_path / "roots/root.der").write_bytes(ROOT.der)
    (tmp_path / "between/ca.pem").write_bytes(pem(CA.der))
    (tmp_path / "ek").write_bytes(EK)
    return tmp_path


def pem(*ders: bytes) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(one) + b"-----END CERTIFICATE-----\n"
        for one in ders
    )


def options(home: Path) -> list[Path | str]:
    return [home / "ek", "--roots", home / "roots", "--intermediates", home / "between"]


def test_an_intermediate_is_between(ask: Ask, home: Path) -> None:
    status, answer = ask(*options(home))
    assert (status, reasons(answer)) == (YES, {"ek.root-not-listed"})
    status, answer = ask(home / "ek", "--roots", home / "roots")
    assert (status, reasons(answer)) == (NO, {"ek.chain-incomplete"})
    assert "CN=CA" in answer["findings"][0]["detail"]
    status, answer = ask(home / "ek", "--roots", home / "between")
    assert (status, reasons(answer)) == (YES, {"ek.root-not-listed"})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pem(EK), id="PEM"),
        pytest.param(b"for node 7:\n" + pem(EK).replace(b"\n", b"\r\n"), id="PEM and text"),
        pytest.param(EK + b"\xff" * 500, id="padded"),
        pytest.param(bytes.fromhex("10010004641002") + EK + b"\0" * 9, id="header and padding"),
    ],
)
def test_forms_of_a_certificate(ask: Ask, home: Path, content: bytes) -> None:
    (home / "ek").write_bytes(content)
    status, answer = ask(*options(home))
    assert (status, answer["verdict"]) == (YES, "accepted")
    assert answer["ek_hash"] == ask(*options(home))[1]["ek_hash"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"junk", id="junk"),
        pytest.param(EK[:-1], id="cut short"),
        pytest.param(EK + b"x", id="something behind"),
        pytest.param(b"\xff" * 1600, id="an index that was never written"),
        pytest.param(pem(EK, CA.der), id="two"),
        pytest.param(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", id="no PEM"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", id="no base64"
        ),
        pytest.param(b"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", id="a key"),
        pytest.param(bytes(2 << 20), id="two megabytes"),
    ],
)
def test_a_file_that_is_no_certificate(ask: Ask, home: Path, content: bytes) -> None:
    (home / "ek").write_bytes(content)
    status, answer = ask(*options(home))
    assert (status, answer["verdict"]) == (MISUSED, "malformed")
    assert reasons(answer) == {"ek.certificate-unreadable"}
    assert answer["ek_hash"] is None


@pytest.mark.parametrize("kind", ["PUBLIC KEY", "X509 CRL", "TRUSTED CERTIFICATE"])
def test_something_else_in_pem_is_called_that(ask: Ask, home: Path, kind: str) -> None:
    text = pem(EK).replace(b"CERTIFICATE-----", f"{kind}-----".encode())
    for name in ("ek", "roots/other"):
        (home / name).write_bytes(text)
    _, answer = ask(*options(home))
    details = [one["detail"] for one in answer["findings"]]
    assert reasons(answer) == {"ek.certificate-unreadable", "ek.file-unreadable"}
    assert all(
        one.endswith("found expected a certificate, got something else in PEM") for one in details
    )


def test_a_file_of_a_directory_that_cannot_be_read_is_a_finding(ask: Ask, home: Path) -> None:
    (home / "roots/README").write_text("roots")
    (home / "roots/more").mkdir()
    (home / "between/cut.der").write_bytes(CA.der[:-1])
    status, answer = ask(*options(home))
    assert (status, answer["verdict"]) == (YES, "accepted")
    unread = [one["detail"] for one in answer["findings"] if one["reason"] == "ek.file-unreadable"]
    assert len(unread) == 2
    assert any("README" in one for one in unread)


def test_no_roots_refuse(ask: Ask, home: Path) -> None:
    (home / "roots/root.der").unlink()
    status, answer = ask(*options(home))
    assert (status, reasons(answer)) == (NO, {"ek.no-roots"})


def test_a_directory_that_is_not_there(home: Path) -> None:
    (home / "roots/root.der").unlink()
    (home / "roots").rmdir()
    assert main(["check-ek", *map(str, options(home))]) == MISUSED


@pytest.mark.parametrize("time", ["2019-12-31", "2019-12-31T23:59:59Z", "2019-12-31T23:59:59"])
def test_a_time_before(ask: Ask, home: Path, time: str) -> None:
    status, answer = ask(*options(home), "--at", time)
    assert status == NO
    assert "ek.certificate-not-yet-valid" in reasons(answer)


@pytest.mark.parametrize("time", ["2020-01-01", "9999-12-31T23:59:59+00:00"])
def test_a_time_at_the_edge(ask: Ask, home: Path, time: str) -> None:
    status, _ = ask(*options(home), "--at", time)
    assert status == (YES if time < "9" else NO)


@pytest.mark.parametrize("arguments", [["--at", "yesterday"], [], ["--roots"]])
def test_misuse(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check-ek", "x", *arguments])
    assert ended.value.code == MISUSED


@pytest.mark.parametrize("time", ["yesterday", "1", "2026-02-30", "2026-1-1", ""])
def test_a_time_that_is_no_iso_date(capsys: pytest.CaptureFixture[str], time: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check-ek", "x", "--roots", "y", "--at", time])
    assert ended.value.code == MISUSED
    assert "argument --at: expected an ISO date, such as 2026-" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_a_terminal_has_no_letters_for(home: Path, encoding: str) -> None:
    """It is written in others, and the exit status is that of the verdict."""
    maker = found("Würzburg 電")
    (home / "roots/root.der").write_bytes(maker.der)
    (home / "ek").write_bytes(certify(maker))
    done = subprocess.run(
        [sys.executable, "-m", "verifier", "check-ek", *map(str, options(home))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (YES, b"")
    said = done.stdout.decode(encoding)
    written = "Würzburg 電".encode(encoding, "backslashreplace").decode(encoding)
    assert f"found CN={written}, sha256:" in said


def test_words_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-ek", *map(str, options(home))]) == YES
    said = capsys.readouterr().out
    assert said.startswith("accepted\nmanufacturer  id:49424D00  IBM\n")
    assert main(["check-ek", "--quiet", *map(str, options(home))]) == YES
    assert capsys.readouterr().out == ""
    assert main(["check-ek", "--quiet", *map(str, options(home)[:3])]) == NO
    said = capsys.readouterr().out
    assert said.startswith("finding  ek.chain-incomplete")
    assert "next      put that certificate" in said
