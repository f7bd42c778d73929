"""The table of files that others have made: which test judges each, or why none does yet.

`../shared/vectors` beside the checkout; without it, these tests say that they were skipped. What
is not judged yet is refused, and the README repeats why.
"""

import json
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from attestor import templates
from evidence import tpm
from evidence.event_log import EventLog
from evidence.ima import read_measurement, read_records
from tests.shared_vectors import VECTORS, expected, needs_vectors, or_absent
from verifier import enrolment
from verifier.__main__ import main
from verifier.attestation_key import verify_ak
from verifier.commands import MISUSED, YES
from verifier.reasons import Reason

pytestmark = needs_vectors
Out = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parent.parent

JUDGED = {
    # 1. Quotes
    "generated-swtpm/*": "tests/evidence/test_tpm.py",
    "go-attestation/windows_gcp_shielded_vm.json": "tests/verifier/test_foreign_quotes.py",
    "go-tpm-tools/attestations/*": "tests/verifier/test_foreign_quotes.py",
    "trustee/tpm_evidence.json": "tests/verifier/test_foreign_quotes.py",
    "trustee/az-*": "tests/verifier/test_foreign_quotes.py",
    "keylime/quotes/*": "tests/verifier/test_foreign_quotes.py",
    "keylime/tpm2-tools-files/*": "tests/verifier/test_foreign_quotes.py",
    "keylime/makecredential_kat.json": "tests/verifier/crypto/test_activation.py",
    "rust-keylime/test-quote.txt": "tests/verifier/test_foreign_quotes.py",
    "veraison/tpm-enacttrust/basic.*": "tests/verifier/test_foreign_quotes.py",
    "veraison/parsec-tpm/evidence.cbor": "tests/verifier/test_foreign_quotes.py",
    "veraison/parsec-tpm/comid-parsec-tpm-ta.json": "tests/verifier/test_foreign_quotes.py",
    "py_webauthn/*.json": "tests/verifier/test_foreign_quotes.py",
    # 2. Event logs
    "go-attestation/*eventlog": "tests/verifier/test_event_log.py",
    "go-tpm-tools/eventlogs/*": "tests/verifier/test_event_log.py",
    "hirs/eventlogs/*": "tests/verifier/test_event_log.py",
    "ibmtss/[a-hj-r]*.log": "tests/verifier/test_event_log.py",
    "ibmtss/ideapad1.log": "tests/verifier/test_event_log.py",
    "ibmtss/sm?.log": "tests/verifier/test_event_log.py",
    "ibmtss/ubuntu?.log": "tests/verifier/test_event_log.py",
    "ibmacs/*bios.log": "tests/verifier/test_event_log.py",
    "keylime/eventlogs/*": "tests/verifier/test_event_log.py",
    "rust-keylime/uefi_log.bin": "tests/verifier/test_event_log.py",
    "tpm2-tools/event*.bin": "tests/verifier/test_event_log.py",
    "tpm2-tools/specid-vendordata.bin": "tests/verifier/test_event_log.py",
    "tpm2-tools/raw-yaml/*": "tests/test_vectors.py",
    "trustee/ccel/CCEL_*[a-z]": "tests/verifier/test_event_log.py",
    "trustee/ccel/*_out.json": "tests/test_vectors.py",
    # 3. Measurement lists
    "ibmtss/imatest.log": "tests/verifier/test_check_log.py",
    "ibmtss/sha*.log": "tests/verifier/test_check_log.py",
    "ibmtss/imakvtpcr10.txt": "tests/verifier/test_check_log.py",
    "ibmacs/imasig.log": "tests/verifier/test_check_log.py",
    "ibmacs/imakey.der": "tests/verifier/test_file_signature.py",
    "keylime/ima/keys/*": "tests/verifier/test_file_signature.py",
    "keylime/ima/*": "tests/verifier/test_check_log.py",
    "rust-keylime/*ima_log.txt": "tests/verifier/test_check_log.py",
    "rust-keylime/ascii_runtime_measurements": "tests/verifier/test_check_log.py",
    # 4. Endorsement
    "go-tpm-tools/certificates/*": "tests/verifier/test_check_ek.py",
    "go-tpm-tools/ca-certs/*": "tests/verifier/test_check_ek.py",
    "keylime/certs/*": "tests/verifier/test_check_ek.py",
    "keylime/tpm_cert_store/*": "tests/verifier/test_check_ek.py",
    "hirs/certs/*": "tests/verifier/test_check_ek.py",
    "ibmtss/certificates/*": "tests/verifier/test_check_ek.py",
    "go-attestation/platform-certs/*": "tests/verifier/test_check_ek.py",
    "hirs/tpm2/*": "tests/test_vectors.py",
    # 5. Policies of endorsement keys
    "ibmtss/policies/policyiwgeksha256.bin": "tests/test_vectors.py",
    # 6 and 7. Made here
    "kernels/*runtime_measurements*": "tests/verifier/test_check_log.py",
    "kernels/debian12-boot/*": "tests/verifier/test_check_log.py",
    "kernels/k*/*": "tests/verifier/test_kernel_quotes.py",
    "made-here/ima-1000.*": "tests/test_vectors.py",
}
"""Which test reads the files of a pattern; of several patterns the first counts."""

NOT_JUDGED = {
    "Canonical event logs (TCG CEL)": ("go-tpm-tools/cel/*",),
    "Reference values as CoRIM, CoMID or CoSWID, and the COSE around them": (
        "ietf/corim/*", "hirs/rim/*", "veraison/*/corim-*", "veraison/*/comid-*-refval.json",
    ),
    "Attestation results and tokens (EAR, EAT) and the CMW envelope": (
        "ietf/ear/*", "ietf/eat/*", "ietf/cmw/*", "veraison/ear/*", "veraison/results/*",
        "trustee/example.token.json",
    ),
    "Authorisation policies of TPM keys other than ours and endorsement keys": (
        "ibmtss/policies/*",
    ),
    "Updates of Secure Boot's lists in files (dbx, KEK); lists in event logs are read": (
        "go-tpm-tools/secure-boot/*",
    ),
    "What a TPM says of its capabilities, templates in its NV memory": (
        "tpm2-tools/get-capability-tpm-prop-fixed.bin", "tpm2-tools/ek-template-default.bin",
    ),
}  # fmt: skip
"""What nothing of ours reads as evidence yet, by the reason's words in the README."""

ABOUT = ("*LICENSE*", "expected.json", "MANIFEST.md", "veraison/parsec-tpm/evidence.diag")
"""Not evidence of any kind; the last is for people."""


def files() -> list[str]:
    return sorted(str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*") if path.is_file())


def fits(name: str, patterns: Any) -> bool:  # noqa: ANN401 - anything with strings in it
    return any(fnmatch(name, pattern) for pattern in patterns)


def reasons(name: str) -> list[str]:
    return [reason for reason, patterns in NOT_JUDGED.items() if fits(name, patterns)]


# The table


def test_expected_json_is_the_table_of_two_kinds() -> None:
    """Each of its rows is a parameter of the tests that `JUDGED` names for it."""
    table = json.loads((VECTORS / "expected.json").read_text())
    assert {kind: len(table[kind]) for kind in table if kind != "note"} == {
        "eventlogs": 61, "ima": 18,
    }  # fmt: skip
    tests = {
        "eventlogs": "tests/verifier/test_event_log.py",
        "ima": "tests/verifier/test_check_log.py",
    }
    for kind, test in tests.items():
        for name in expected(kind):
            [found] = [JUDGED[pattern] for pattern in JUDGED if fnmatch(name, pattern)][:1]
            assert (VECTORS / name).is_file()
            assert found == test, name


def test_every_file_is_judged_or_says_why_not() -> None:
    for name in files():
        places = [fits(name, JUDGED), bool(reasons(name)), fits(name, ABOUT)]
        assert any(places), f"{name}: no test, and no reason"
        assert len(reasons(name)) < 2, name


def test_every_pattern_is_of_some_file() -> None:
    patterns = [*JUDGED, *ABOUT, *(one for some in NOT_JUDGED.values() for one in some)]
    for pattern in patterns:
        assert any(fnmatch(name, pattern) for name in files()), pattern


def test_the_tests_that_the_table_names_read_those_files() -> None:
    rows = {*expected("eventlogs"), *expected("ima")}
    for pattern, test in JUDGED.items():
        found = [name for name in files() if fnmatch(name, pattern)]
        if rows.issuperset(found):
            continue  # a parameter of its own each
        text = (ROOT / test).read_text()
        folder, _, name = pattern.partition("/")
        assert folder in text or name.strip("*") in text, pattern


def test_the_readme_says_what_is_not_judged_and_why() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    for reason in NOT_JUDGED:
        assert reason in text, reason


UNJUDGED = [name for name in files() if reasons(name)] if VECTORS.is_dir() else []


@pytest.mark.parametrize("name", or_absent(UNJUDGED))
def test_what_is_not_judged_is_refused(name: str, capsys: Out) -> None:
    for command in (["check-eventlog"], ["check-log"], ["check-log", "--ascii"]):
        assert main([*command, str(VECTORS / name), "--quiet"]) == MISUSED
    capsys.readouterr()


# Section 2: what others' tools say of logs


@pytest.mark.parametrize("path", or_absent(VECTORS.glob("tpm2-tools/raw-yaml/*.yaml")), ids=str)
def test_registers_that_tpm2_tools_compute(path: Path, capsys: Out) -> None:
    """tpm2_eventlog extends every bank that a log declares, events that lack a digest aside."""
    assert main(["check-eventlog", str(VECTORS / "tpm2-tools" / path.stem), "--json"]) == YES
    answer = json.loads(capsys.readouterr().out)
    _, _, text = path.read_text().partition("\npcrs:\n")
    bank, compared = "", 0
    for line in text.splitlines():
        name, _, value = (word.strip() for word in line.partition(":"))
        if not value:
            bank = name
        elif bank in answer["pcrs"] and name in answer["pcrs"][bank]:
            assert f"0x{answer['pcrs'][bank][name]}" == value
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("name", ["CCEL_data_grub", "CCEL_data_ovmf"])
def test_digests_that_trustee_reads(name: str) -> None:
    """But the header event, which it leaves out."""
    read = json.loads((VECTORS / "trustee" / "ccel" / f"{name}_out.json").read_text())
    log = EventLog.decode((VECTORS / "trustee" / "ccel" / name).read_bytes())
    digests = [one["digest"] for event in read["uefi_event_logs"] for one in event["digests"]]
    ours = [digest.hex() for event in log.events for _, digest in event.digests]
    assert ours[-len(digests) :] == digests
    assert len(ours) - len(digests) <= 1


# Section 4 and 5: names and policies of keys


def test_keys_of_a_real_tpm() -> None:
    """Their Name is over all of it, so the file `ak.name` is of another state of that TPM."""
    folder = VECTORS / "hirs" / "tpm2"
    ak = verify_ak((folder / "ak.pub").read_bytes(), Reason.QUOTE_AK)
    assert ak.name != (folder / "ak.name").read_bytes()
    ek = tpm.Public.decode((folder / "ek.pub").read_bytes())
    assert ek.policy == enrolment.EK_POLICY
    for public, name in ((ak.public, "ak.mod"), (ek, "ek.mod")):
        [modulus] = public.unique
        assert modulus == bytes.fromhex((folder / name).read_text())


def test_the_policy_of_endorsement_keys() -> None:
    known = (VECTORS / "ibmtss" / "policies" / "policyiwgeksha256.bin").read_bytes()
    assert known == enrolment.EK_POLICY == templates.EK_POLICY


# Section 7


def test_tables_of_a_list_of_a_thousand_records() -> None:
    folder = VECTORS / "made-here"
    policy = json.loads((folder / "ima-1000.policy.json").read_text())["digests"]
    lines = (folder / "ima-1000.sha256sums").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    for record in read_records((folder / "ima-1000.bin").read_bytes()):
        one = read_measurement(record)
        assert policy[one.path.decode()] == [one.digest.hex()]
        assert sums.get(one.path.decode(), one.digest.hex()) == one.digest.hex()
    assert len(policy) == len(sums) + 1 == 1000
