"""What a red team found in how others' evidence is judged: each of these got through once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from cryptography.x509.oid import ObjectIdentifier as Oid

from credential import crypto
from evidence import Malformed, der
from evidence.event_log import (
    EFI_VARIABLE_AUTHORITY,
    EFI_VARIABLE_DRIVER_CONFIG,
    IPL,
    SEPARATOR,
    Event,
)
from evidence.file_signature import FileSignature
from evidence.ima import Record
from tests.makers import certify, distinguished, found, trusting, verify
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_boot import (
    COMMAND_LINE,
    LEAVING,
    boot_uki,
    firmware,
    image,
    log_of,
    make_event,
    secure_boot,
    variable,
)
from tests.simulated_keys import private_key
from tests.simulated_node import SimulatedNode, make_record
from tests.verifier.quoted import Quoted, refusals
from tests.verifier.test_case import decisions, exported
from verifier import Reason, Rejected, plain
from verifier.__main__ import main
from verifier.boot_policy import read_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.case import Document, Exported, Head, _signed_text, digest_of
from verifier.certificates import read_file, read_folder
from verifier.commands import MISUSED, NO, UNKNOWN, YES
from verifier.config import Config, Misconfigured
from verifier.event_log import judge_event_log
from verifier.explanation import State, explain
from verifier.file_signature import MOST_SIGNATURE_BYTES, verify_file_signature
from verifier.keys import jwks
from verifier.node import Measured
from verifier.policy import FileKey, Signer
from verifier.reasons import Finding

Out = pytest.CaptureFixture[str]
ROOT = "root on the node"
BOOT = "the boot"
FILES = "whoever writes the files"
ORGANISATION, COMMON = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME
TERMINAL = "\x1b[2J\x1b[31m"


@pytest.fixture
def uki(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(log_of(boot_uki()).encode())
    return path


# Event logs


def relabelled(event: Event) -> Event:
    """Return the event with another type and no data: its digest alone is measured."""
    return replace(event, type=0x8000_000A, data=b"")


def was_off(events: list[Event], *, first: bool) -> list[Event]:
    """Return a log of a boot without Secure Boot, in which root says later that it was on.

    What the register was extended with is told, in its order, under other types; then root
    extends it with what a boot with Secure Boot would have.
    """
    told = [
        relabelled(one)
        if one.register == 7 and one.type in (EFI_VARIABLE_DRIVER_CONFIG, SEPARATOR)
        else one
        for one in events
    ]
    later = [secure_boot(b"\1"), make_event(7, SEPARATOR, bytes(4))]
    return [*told, *(later if first else reversed(later)), *LEAVING]


@pytest.mark.attack(number=134, attacker=ROOT, asset="what is said of Secure Boot")
@pytest.mark.parametrize("value", [b"\0", b""])
@pytest.mark.parametrize("first", [True, False])
def test_134_secure_boot_that_was_off_is_not_said_to_be_on(value: bytes, *, first: bool) -> None:
    """Types are not measured, and a register takes any digest later."""
    assert judge_event_log(log_of([*firmware(b"\1"), *LEAVING])).secure_boot is True
    judged = judge_event_log(log_of(was_off(firmware(value), first=first)))
    assert not judged.refusals
    assert judged.secure_boot is not True
    # The separator alone told apart by its type: what says off stands before it.
    seen = [relabelled(one) if one.type == SEPARATOR else one for one in firmware(value)]
    judged = judge_event_log(log_of([*seen, secure_boot(b"\1"), *LEAVING]))
    assert judged.secure_boot is False
    # Off hidden, on in its place: no firmware extends both before the separator.
    hidden = [relabelled(one) if one.type == EFI_VARIABLE_DRIVER_CONFIG else one
              for one in firmware(value)]  # fmt: skip
    judged = judge_event_log(log_of([secure_boot(b"\1"), *hidden, *LEAVING]))
    assert judged.secure_boot is None
    assert Reason.EVENT_LOG_SECURE_BOOT in {one.reason for one in judged.notes}


@pytest.mark.attack(number=134, attacker=ROOT, asset="what is said of Secure Boot")
def test_134_a_bank_that_nobody_quotes_hides_no_separator() -> None:
    """Digests of another bank than the quoted one are free to choose."""
    events = []
    for one in was_off(firmware(b"\0"), first=True):
        (sha1, _), other = one.digests
        is_told = one.register == 7 and one.type == 0x8000_000A
        events.append(replace(one, digests=((sha1, bytes(20)), other)) if is_told else one)
    assert judge_event_log(log_of(events)).secure_boot is not True


@pytest.mark.attack(number=9, attacker=ROOT, asset=BOOT)
@pytest.mark.parametrize("hidden", ["one", "all"])
def test_9_events_of_the_boot_are_not_passed_off_as_records_of_the_list(hidden: str) -> None:
    """The hash of a record's data is extended, as that of an event's: one can be told as other."""
    evil = variable("db", b"evil", is_authority=True)
    events = [*firmware(), evil, image(b"evil"), *LEAVING]
    values = judge_event_log(log_of(events)).registers["sha256"]
    moved = [evil] if hidden == "one" else [one for one in events if one.register == 7]
    shown = [one for one in events if one not in moved]
    aggregate = sha256(b"".join(values.get(n, bytes(32)) for n in range(10))).digest()
    records = [make_record("boot_aggregate", aggregate)]
    records += [
        Record(register=7, template_hash=b"?" * 20, template="x", data=one.data) for one in moved
    ]
    records = [replace(one, template_hash=one.extension("sha1")) for one in records]
    quoted = Quoted()
    quoted.values = {("sha256", n): values.get(n, bytes(32)) for n in range(10)}
    extended = sha256(bytes(32) + records[0].extension("sha256")).digest()
    quoted.values["sha256", 10] = extended
    ima_log = b"".join(one.encode() for one in records)
    event_log = log_of(shown).encode()
    files = quoted.files(values={}, ima_log=ima_log, event_log=event_log)
    assert refusals(files) == {Reason.LIST_REGISTER}
    honest = records[0].encode()
    whole = log_of(events).encode()
    assert not refusals(quoted.files(values={}, ima_log=honest, event_log=whole))
    assert EFI_VARIABLE_AUTHORITY in {one.type for one in moved}


# Policies and what is written into them

LONG = "f" * 5000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("version = " + "1" * 5000, id="long number"),
        pytest.param(f"version = 1\nname = 0x{LONG}\nreject = 0x{LONG}", id="long to show"),
        pytest.param("version = 1\nname" + ".a" * 20_000 + " = 1\nreject" + ".a" * 20_000 + " = 1",
                     id="deep"),
        pytest.param("version = 1\nreject = " + "[" * 20_000, id="nested"),
        pytest.param("version = 1", id="empty"),
    ],
)  # fmt: skip
def test_odd_policies_are_misuse(tmp_path: Path, uki: Path, capsys: Out, text: str) -> None:
    """Exit 1 is for a boot that does not fit, not for a policy that is none."""
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    with pytest.raises(Rejected, match=Reason.POLICY_INVALID):
        read_boot_policy(text)
    assert main(["check-eventlog", str(uki), "--policy", str(policy)]) == MISUSED
    quote = ["--message", str(uki), "--signature", str(uki), "--ak", str(uki), "--nonce", "00"]
    assert main(["check-quote", *quote, "--policy", str(policy)]) == MISUSED
    assert str(policy) in capsys.readouterr().err


def test_odd_configurations_are_misuse(tmp_path: Path) -> None:
    path = tmp_path / "verifier.toml"
    for text in ("port = " + "1" * 5000, "a = " + "[" * 20_000):
        path.write_text(text)
        with pytest.raises(Misconfigured):
            Config.load(path)


def test_a_boot_policy_is_made_of_text_alone(tmp_path: Path, uki: Path, capsys: Out) -> None:
    make = ["boot-policy", "make", "--name", "x", "--event-log"]
    assert main([*make, str(uki), "--command-line", os.fsdecode(b"ro \xff")]) == MISUSED
    odd = tmp_path / os.fsdecode(b"log\xff\n" + TERMINAL.encode())
    odd.write_bytes(uki.read_bytes())
    capsys.readouterr()
    assert main([*make, str(odd), "--command-line", COMMAND_LINE]) == YES
    made = capsys.readouterr().out
    assert "\x1b" not in made
    assert read_boot_policy(made).command_lines == (COMMAND_LINE,)


def test_a_boot_policy_names_events_however_many_lines_they_have() -> None:
    """GRUB's menus have: each line's end is written as two characters, and names are bounded."""
    menu = make_event(8, IPL, b"menu\n\t" * 100 + b"\0")
    made = make_boot_policy("x", [log_of([*boot_uki(), menu])], command_lines=[COMMAND_LINE])
    assert [len(name) for name in made.registers[8]] == [257]


# Certificates


@pytest.mark.attack(number=101, attacker="somebody with another TPM", asset="the makers' word")
@pytest.mark.parametrize(
    "subject",
    [
        pytest.param([(ORGANISATION, "ST\u200b")], id="zero width"),
        pytest.param([(ORGANISATION, "S\u00adT")], id="soft hyphen"),
        pytest.param([(ORGANISATION, "ST\0")], id="NUL"),
        pytest.param([(ORGANISATION, "ST"), (COMMON, "x")], id="one attribute more"),
    ],
)
def test_101_no_name_gets_around_a_constraint_unseen(subject: list[tuple[Oid, str]]) -> None:
    directory = x509.DirectoryName(distinguished((ORGANISATION, "ST")))
    none = x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[directory])
    root = found("root")
    middle = found("middle", root, more=[(none, True)])
    trust = trusting([root], [middle])
    free = distinguished((ORGANISATION, "STM"), (COMMON, "x"))
    assert verify(certify(middle, subject=free), trust).chain
    relative = x509.RelativeDistinguishedName([x509.NameAttribute(*one) for one in subject])
    with pytest.raises(Rejected, match=Reason.EK_NAME):
        verify(certify(middle, subject=x509.Name([relative])), trust)


@pytest.mark.attack(number=101, attacker=FILES, asset="what a terminal shows")
def test_101_odd_files_among_certificates_are_findings_and_obeyed_by_no_terminal(
    tmp_path: Path,
) -> None:
    roots = tmp_path / "roots"
    (roots / "more").mkdir(parents=True)
    root = found("root")
    (roots / "good").write_bytes(root.der)
    (roots / os.fsdecode(b"a\xff" + TERMINAL.encode())).write_bytes(b"none")
    os.mkfifo(roots / "fifo")
    (roots / "zero").symlink_to("/dev/zero")
    (roots / "gone").symlink_to("/nowhere")
    folder = read_folder(roots)
    assert [one.der for one in folder.certificates] == [root.der]
    assert {one.reason for one in folder.findings} == {Reason.EK_FILE}
    assert len(folder.findings) == 4
    leaf = tmp_path / "ek"
    leaf.write_bytes(certify(root))
    command = [sys.executable, "-m", "verifier", "check-ek", str(leaf), "--roots", str(roots)]
    at = ["--at", "2026-01-01"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([*command, *at], capture_output=True, env=environment, check=False)
    assert done.returncode == YES, done.stderr
    assert b"\x1b" not in done.stdout
    assert b"a\\udcff\\x1b[2J" in done.stdout


@pytest.mark.attack(number=101, attacker=FILES, asset="the makers' word")
def test_101_text_in_a_certificate_is_not_taken_for_another_one(tmp_path: Path) -> None:
    """Whoever looks at the file with another tool sees the outer one."""
    inner, path = found("inner"), tmp_path / "root"
    pem = x509.load_der_x509_certificate(inner.der).public_bytes(serialization.Encoding.PEM)
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, pem.decode(), _validate=False)
    outer = found(x509.Name([unit]))
    path.write_bytes(outer.der)
    assert read_file(path) == (outer.der,)
    path.write_bytes(b"what it is:\n" + pem + pem)
    assert read_file(path) == (inner.der, inner.der)
    path.write_bytes(pem + pem.partition(b"-----END")[0])
    with pytest.raises(Malformed, match="whole"):
        read_file(path)


@pytest.mark.parametrize("content", ["0704", "0107", "07ff", "07"])
def test_101_bits_that_are_not_used_are_none(content: str) -> None:
    """The use of a key to sign certificates, written where no use is."""
    with pytest.raises(Malformed):
        der.bits(bytes.fromhex(content))
    assert der.bits(bytes.fromhex("0204")) == {5}
    assert der.bits(bytes.fromhex("00")) == frozenset()


# Signatures of files


@pytest.mark.attack(number=100, attacker=ROOT, asset="the verifier's memory")
def test_100_signatures_of_files_are_no_longer_than_keys_make_them() -> None:
    """Answers are kept with what was asked: thousands of 64 KiB would be."""
    signer = Signer(name="s", keys=(FileKey(spki=b"", key_id=b"\1\2\3\4"),), paths=("usr/",))
    for size in (MOST_SIGNATURE_BYTES + 1, (1 << 16) - 1):
        attribute = FileSignature(
            is_verity=False,
            version=2,
            algorithm="sha256",
            key_id=b"\1\2\3\4",
            signature=bytes(size),
        ).encode()
        record = Measured(
            register=10,
            algorithm="sha256",
            digest=bytes(32),
            path=b"/usr/bin/x",
            template="ima-sig",
            signature=attribute,
        )
        with pytest.raises(Rejected, match=Reason.LIST_SIGNATURE):
            verify_file_signature(record, what="x", signers=[signer])


# Cases and their explanation


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path_factory.mktemp("verifier"))
    node = SimulatedNode()
    running.trust(node)
    player = Player(node, running.service)
    player.enrol()
    player.attest()
    node.measure("usr/bin/odd", b"odd")
    with pytest.raises(Rejected):
        player.attest()
    yield running
    running.close()


@pytest.fixture
def cases(running: RunningVerifier) -> list[bytes]:
    """An accepted one and a refused one, neither with a boot policy."""
    return [exported(running, seq) for seq in decisions(running)]


def signed_by_nobody(data: bytes, head: Head, documents: tuple[Document, ...] = ()) -> bytes:
    """Return the case with another head, signed by a key of one's own."""
    key = private_key("somebody's")
    case = Exported.decode(data)
    documents = documents or case.documents
    encoded = replace(head, documents=digest_of(documents)).encode()
    return replace(
        case,
        head=encoded,
        documents=documents,
        signer=crypto.point_of(key.public_key()),
        signature=crypto.sign(key, _signed_text(case.ledger, encoded)),
    ).encode()


def told(path: Path, capsys: Out, *options: str, command: str = "explain") -> tuple[int, str, str]:
    status = main([command, str(path), *options])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.attack(number=134, attacker="a node whose boot nobody judged", asset=BOOT)
def test_134_a_boot_that_nobody_judged_is_not_shown_green_in_a_refusal(
    cases: list[bytes], tmp_path: Path, capsys: Out
) -> None:
    path = tmp_path / "case"
    path.write_bytes(cases[1])
    status, out, _ = told(path, capsys, "--json")
    states = {one["link"]: one["state"] for one in json.loads(out)["links"]}
    assert (status, states[3], states[4]) == (NO, State.OPEN, State.HOLDS)
    node = SimulatedNode()
    policy = node.policy()
    asked = replace(policy, boot_policies=(read_boot_policy(node.boot_policy_toml()),))
    refusal = Rejected([Finding(reason=Reason.LIST_UNKNOWN)])
    for one, expected in ((policy, State.OPEN), (asked, State.HOLDS)):
        links = explain(refusal, node=node.enrolled(), ek_hash="", policy=one)
        assert {link.number: link.state for link in links}[3] is expected


@pytest.mark.attack(number=135, attacker=FILES, asset="the explanation of a decision")
def test_135_a_case_that_nobody_vouches_for_says_so(
    running: RunningVerifier, cases: list[bytes], tmp_path: Path, capsys: Out
) -> None:
    path = tmp_path / "case"
    path.write_bytes(signed_by_nobody(cases[0], plain.decode(Head, Exported.decode(cases[0]).head)))
    status, out, _ = told(path, capsys)
    assert status == YES
    assert out.splitlines()[1] == "? -  the case is the verifier's own: open"
    assert json.loads(told(path, capsys, "--json")[1])["signer_known"] is False
    assert "--keys" in told(path, capsys, command="appraise")[2]
    answer = json.loads(told(path, capsys, "--json", command="appraise")[1])
    point = crypto.point_of(private_key("somebody's").public_key())
    assert answer["signer"] == sha256(point).hexdigest()
    keys = tmp_path / "keys"
    grant = running.service.keys.grant
    keys.write_text(json.dumps({"grant_keys": jwks(grant)}))
    assert told(path, capsys, "--keys", str(keys))[0] == MISUSED
    path.write_bytes(cases[0])
    status, out, _ = told(path, capsys, "--keys", str(keys))
    assert status == YES
    assert "verifier's own" not in out


@pytest.mark.attack(number=107, attacker=FILES, asset="what a terminal shows")
def test_107_names_in_a_case_are_obeyed_by_no_terminal(
    cases: list[bytes], tmp_path: Path, capsys: Out
) -> None:
    head = plain.decode(Head, Exported.decode(cases[0]).head)
    named = replace(head, node=replace(head.node, name=f"x\n{TERMINAL}"))
    framed = replace(head, frame=replace(head.frame, trust_domain=TERMINAL))
    path = tmp_path / "case"
    for one, expected in ((named, UNKNOWN), (framed, MISUSED)):
        path.write_bytes(signed_by_nobody(cases[0], one))
        for command in ("explain", "appraise"):
            status, out, err = told(path, capsys, command=command)
            assert status == expected
            assert "\x1b" not in out + err
    path.write_bytes(
        signed_by_nobody(
            cases[0], head, (Document(kind="workload", name="x", text="version = " + "1" * 5000),)
        )
    )
    assert told(path, capsys)[0] == MISUSED


def test_files_beside_a_case_that_never_end_or_nest_too_deep(
    cases: list[bytes], tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verifier.case_tools.MOST_CASE_BYTES", 1 << 20)
    assert told(Path("/dev/zero"), capsys)[0] == MISUSED
    path, keys = tmp_path / "case", tmp_path / "keys"
    path.write_bytes(cases[0])
    keys.write_text("[" * 100_000)
    assert told(path, capsys, "--keys", str(keys))[0] == MISUSED
    assert told(path, capsys, "--keys", "/dev/zero")[0] == MISUSED


def test_what_is_given_for_another_thing_is_told(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "list"
    path.write_text(f"10 {'ab' * 20} ima-ng sha256:{'cd' * 32} boot_aggregate\n")
    assert main(["check-log", str(path)]) == MISUSED
    assert "check-log --ascii" in capsys.readouterr().err
    assert main(["check-eventlog", str(path)]) == MISUSED
    assert "is this a boot event log?" in capsys.readouterr().err
