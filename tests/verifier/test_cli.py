"""The command line, called as a function; and once as the program that it is."""

import json
import re
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.critical_data import (
    POLICY_612,
    RESUMED_612,
    STATE_612,
    TABLE_612,
    confinement_toml,
    verity_toml,
)
from tests.open_doors import Door, Refused, open_doors, trusting
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_keys import sha256
from tests.simulated_node import ATTESTOR_FILES, KERNEL_POLICY, SYSTEM_FILES, SimulatedNode
from tests.simulated_process import IDENTITY
from tests.simulated_signer import SimulatedSigner
from tests.simulated_tpm import MANUFACTURER
from verifier import Rejected, client
from verifier.__main__ import main
from verifier.commands import MISUSED, NO, UNKNOWN, YES
from verifier.config import Config
from verifier.enrolment import ek_hash
from verifier.ledger import Cause, Kind
from verifier.operations.documents import kernel_policy_name
from verifier.reference import read_reference

Out = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory that `verifier init` has filled."""
    directory = tmp_path / "verifier"
    assert main(["init", str(directory), "--port", "0", "--host", "localhost"]) == YES
    return directory


@pytest.fixture
def asking(verifier: RunningVerifier) -> Iterator[list[str]]:
    with open_doors(verifier.service):
        yield ["--socket", str(verifier.config.socket)]


# Without a server


def test_init_makes_what_serve_needs(home: Path, capsys: Out) -> None:
    config = Config.load(home / "verifier.toml")
    assert config.issuer == "https://localhost:0"
    assert config.state == home / "state"
    assert stat.S_IMODE(config.state.stat().st_mode) == 0o700
    for key in ("ca.key", "server.key", "state/wit.pem", "state/grant.pem"):
        assert stat.S_IMODE((home / key).stat().st_mode) == 0o600
    assert main(["check-config", "--config", str(home / "verifier.toml")]) == YES
    assert "ok" in capsys.readouterr().out


def test_init_overwrites_nothing(home: Path, capsys: Out) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert main(["init", str(home)]) == MISUSED
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    (home / "ca.key").unlink()
    assert main(["init", str(home)]) == MISUSED
    assert not (home / "ca.key").exists()
    assert "nothing was changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--trust-domain", "Example.org"], id="trust domain"),
        pytest.param(["--issuer", "verifier.example.org"], id="issuer"),
        pytest.param(["--listen", "everywhere"], id="address"),
        pytest.param(["--host", "../../etc"], id="host"),
    ],
)
def test_init_refuses_what_serve_would(tmp_path: Path, arguments: list[str]) -> None:
    assert main(["init", str(tmp_path / "new"), *arguments]) == MISUSED
    assert not (tmp_path / "new").exists()


def test_the_ca_issues_for_others(home: Path, tmp_path: Path) -> None:
    arguments = ["ca", "issue", "ledger", "--dir", str(home), "--to", str(tmp_path)]
    assert main([*arguments, "--host", "ledger.lab", "--host", "127.0.0.1"]) == YES
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ledger.pem", tmp_path / "ledger.key")
    assert main(arguments) == MISUSED
    assert main(["ca", "issue", "other", "--dir", str(tmp_path)]) == MISUSED


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        pytest.param(lambda home: (home / "state/wit.pem").unlink(), "wit.pem", id="no key"),
        pytest.param(lambda home: (home / "state/wit.pem").chmod(0o644), "chmod", id="open key"),
        pytest.param(lambda home: (home / "server.pem").unlink(), "tls_certificate", id="no TLS"),
        pytest.param(lambda home: (home / "allow-list").write_text("x"), "allow-list", id="list"),
        pytest.param(lambda home: (home / "ek-roots").rmdir(), "ek_roots", id="no roots"),
        pytest.param(lambda home: (home / "ek-roots/x").write_text("x"), "ek-roots", id="root"),
        pytest.param(
            lambda home: (home / "state/grant.pem").write_bytes(
                (home / "state/wit.pem").read_bytes()
            ),
            "the same",
            id="one key for both",
        ),
        pytest.param(lambda home: (home / "verifier.toml").unlink(), "verifier.toml", id="none"),
    ],
)
def test_check_config_says_what_serve_would_trip_over(
    home: Path,
    capsys: Out,
    break_it: "object",
    said: str,
) -> None:
    break_it(home)  # type: ignore[operator]
    assert main(["check-config", "--config", str(home / "verifier.toml")]) == MISUSED
    assert said in capsys.readouterr().err


def test_a_database_that_cannot_be_opened_is_no_answer(home: Path, capsys: Out) -> None:
    (home / "state" / "verifier.sqlite").mkdir()
    assert main(["check-config", "--config", str(home / "verifier.toml")]) == UNKNOWN
    assert "database" in capsys.readouterr().err


def test_a_reference_set_of_a_tree(tmp_path: Path, capsys: Out) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/true").write_bytes(b"true")
    (tree / "usr/bin/odd\nname").write_bytes(b"odd")
    (tree / "bin").symlink_to("usr/bin")
    (tree / "usr/bin/link").symlink_to("true")
    (tree / "etc").mkdir()
    (tree / "etc/site.py").write_bytes(b"site")
    (tree / "usr/lib").mkdir()
    (tree / "usr/lib/site.py").symlink_to("/etc/site.py")
    (tree / "usr/lib/passwd").symlink_to("/etc/passwd")
    (tree / "usr/lib/hosts").symlink_to("../../../../../../../../etc/hosts")
    (tree / "usr/lib/round").symlink_to("round")
    (tree / "usr/lib/nowhere").symlink_to("gone")
    output = tmp_path / "set.toml"
    arguments = ["reference", "make", "tree-1", "--buffer", "kernel_version=6.12"]
    assert main([*arguments, "--tree", str(tree), "-o", str(output)]) == YES
    made = read_reference(output.read_text())
    assert made.files == {
        "usr/bin/true": (sha256(b"true"),),
        "usr/bin/link": (sha256(b"true"),),
        "usr/lib/site.py": (sha256(b"site"),),
        "etc/site.py": (sha256(b"site"),),
        "kernel_version": (sha256(b"6.12"),),
    }
    assert "1 with odd names left out" in capsys.readouterr().err
    assert main(["reference", "make", "tree-1", "--tree", str(tree), "--quiet"]) == YES
    told = capsys.readouterr()
    assert read_reference(told.out).name == "tree-1"
    assert not told.err


def test_a_reference_set_of_packages(tmp_path: Path) -> None:
    root = tmp_path / "root"
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "out").symlink_to("/etc")
    (root / "usr/lib/libc.so.6").write_bytes(b"libc")
    (root / "usr/lib/alias.so").symlink_to("libc.so.6")
    listed = "/.\n/lib\n/lib/libc.so.6\n/lib/alias.so\n/usr/share/doc/gone\n/out/passwd\n"
    (info / "libc6:amd64.list").write_text(listed)
    (info / "other.list").write_text("/usr\n")
    output = tmp_path / "set.toml"
    arguments = ["reference", "make", "debian", "--root", str(root), "-o", str(output)]
    assert main([*arguments, "--packages", "libc6", "other"]) == YES
    made = read_reference(output.read_text())
    libc = (sha256(b"libc"),)
    assert made.files == {"usr/lib/libc.so.6": libc, "usr/lib/alias.so": libc}
    assert made.source == "packages libc6 other"
    assert main([*arguments, "--packages", "lib*"]) == MISUSED
    assert main([*arguments, "--packages", "other"]) == MISUSED, "a set without files is none"


def test_help_is_there_for_everything(capsys: Out) -> None:
    for arguments in ([], ["node"], ["reference", "make"], ["ledger", "evidence"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--help"])
        assert ended.value.code == YES
    with pytest.raises(SystemExit) as ended:
        main(["no-such-command"])
    assert ended.value.code == MISUSED
    assert "usage: verifier" in capsys.readouterr().out


# With a server


def test_operators_commands(
    verifier: RunningVerifier, asking: list[str], tmp_path: Path, capsys: Out
) -> None:
    node = SimulatedNode()
    files = []
    for number, text in enumerate((*node.reference_toml(), node.workload_toml())):
        files.append(tmp_path / f"{number}.toml")
        files[-1].write_text(text)
    rules = tmp_path / "ima-policy"
    rules.write_bytes(KERNEL_POLICY)
    assert main(["reference", "put", str(files[0]), str(files[1]), *asking]) == YES
    assert main(["kernel-policy", "put", str(rules), *asking]) == YES
    assert main(["workload", "put", str(files[2]), *asking]) == YES
    assert main(["workload", "list", *asking]) == YES
    assert IDENTITY in capsys.readouterr().out
    assert main(["kernel-policy", "list", *asking, "--json"]) == YES
    named = kernel_policy_name(KERNEL_POLICY.decode())
    assert json.loads(capsys.readouterr().out)[0]["name"] == named

    player = Player(node, verifier.service)
    player.enrol()
    assert main(["node", "list", *asking]) == YES
    assert capsys.readouterr().out.startswith("build-7  pending")
    assert main(["node", "approve", "build-7", "--ek", "00", *asking]) == NO
    assert main(["node", "approve", "build-7", *asking]) == YES
    process = node.new_process()
    player.attest()
    player.attest([process])
    capsys.readouterr()

    assert main(["credential", "list", *asking, "--json"]) == YES
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["workload"], listed["status"]) == (IDENTITY, "valid")
    assert main(["ledger", "tail", "-n", "1", *asking]) == YES
    assert "credential.issued" in capsys.readouterr().out
    case = tmp_path / "case"
    decision = str(listed["decision"])
    assert main(["ledger", "evidence", decision, "-o", str(case), *asking]) == YES
    assert main(["appraise", str(case)]) == YES
    assert main(["credential", "revoke", listed["jti"], *asking]) == YES
    assert main(["workload", "show", IDENTITY, *asking]) == YES
    assert 'user = "payments"' in capsys.readouterr().out
    assert main(["reference", "remove", "debian-12", *asking]) == NO
    assert "refused  policy.invalid\n" in capsys.readouterr().out
    assert main(["workload", "remove", IDENTITY, *asking]) == YES
    assert main(["node", "remove", "build-7", *asking]) == YES
    assert main(["node", "forget", "build-7", *asking]) == YES
    assert main(["status", *asking]) == YES
    assert "policy_version" in capsys.readouterr().out


def test_every_token_can_be_named_to_a_command(
    verifier: RunningVerifier, asking: list[str]
) -> None:
    """These bytes begin with - in base64url, which the command took for an option."""
    node = SimulatedNode()
    verifier.trust(node)
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    process = node.new_process()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(verifier.service, "random", lambda count: b"\xfb" * count)
        player.attest([process])
    assert main(["credential", "revoke", player.claims(process).jti, *asking]) == YES
    assert set(verifier.statuses().values()) == {Cause.OPERATOR}


def test_a_signer_is_a_reference_value_too(
    verifier: RunningVerifier, asking: list[str], tmp_path: Path, capsys: Out
) -> None:
    """It is put, listed, counts for a node's evidence, and is in the case of that decision."""
    node, vendor = SimulatedNode(), SimulatedSigner()
    digest = sha256(b"a signed tool")
    node.measure_record("/usr/bin/tool", digest, last=vendor.signature(digest))
    player = Player(node, verifier.service)
    verifier.trust(node)
    player.enrol()
    with pytest.raises(Rejected):
        player.attest()
    path = tmp_path / "vendor.toml"
    path.write_text(vendor.toml(revoked=(f"sha256:{'ab' * 32}",)))
    assert main(["reference", "put", str(path), *asking]) == YES
    capsys.readouterr()
    assert main(["reference", "list", *asking]) == YES
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in listed] == ["debian-12", "payments-1.4", "vendor"]
    assert listed[0].endswith(f"{len(SYSTEM_FILES) + len(ATTESTOR_FILES) + 1} files")
    assert listed[2].endswith("signer, 1 keys, 1 revoked")
    player.attest()
    decision = max(row.seq for row in verifier.ledger() if row.kind == Kind.EVIDENCE_ACCEPTED)
    case = tmp_path / "case"
    assert main(["ledger", "evidence", str(decision), "-o", str(case), *asking]) == YES
    assert main(["appraise", str(case)]) == YES
    path.write_text(vendor.toml(paths=("usr/bin/*",)))
    assert main(["reference", "put", str(path), *asking]) == NO


def test_critical_data_is_a_reference_value_too(
    verifier: RunningVerifier, asking: list[str], tmp_path: Path, capsys: Out
) -> None:
    """What a kernel says of its device and of SELinux is known once its values are put."""
    node = SimulatedNode()
    node.critical = (
        ("dm_table_load", TABLE_612.encode()),
        ("dm_device_resume", RESUMED_612.encode()),
        ("selinux-state", STATE_612.encode()),
        ("selinux-policy-hash", bytes.fromhex(POLICY_612)),
    )
    node.reboot()
    player = Player(node, verifier.service)
    verifier.trust(node)
    player.enrol()
    for text in (verity_toml(TABLE_612), confinement_toml(STATE_612)):
        with pytest.raises(Rejected):
            player.attest()
        path = tmp_path / "value.toml"
        path.write_text(text)
        assert main(["reference", "put", str(path), *asking]) == YES
    player.attest()
    capsys.readouterr()
    assert main(["reference", "list", *asking]) == YES
    listed = capsys.readouterr().out.splitlines()
    told = {line.partition("  ")[0]: line for line in listed}
    assert told["appliance"].endswith("verity, 1 tables")
    assert told["tpm"].endswith("confinement, 1 policies")
    assert main(["reference", "remove", "tpm", *asking]) == YES
    with pytest.raises(Rejected):
        player.attest()


def test_a_refusal_reads_well(asking: list[str], capsys: Out) -> None:
    assert main(["node", "approve", "build-8", *asking]) == NO
    assert capsys.readouterr().out == (
        "refused  node.unknown\n"
        "  what      build-8\n"
        "  expected  the name of a node\n"
        "  next      attestor enrol\n"
    )
    assert main(["node", "approve", "build-8", *asking, "--json"]) == NO
    assert json.loads(capsys.readouterr().out)["findings"][0]["reason"] == "node.unknown"
    assert main(["node", "approve-instance", "build-8", "x", *asking]) == MISUSED


def test_a_workload_that_is_none_is_refused(asking: list[str], tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "odd.toml"
    path.write_text("version = 1\nid = 'spiffe://example.org/a'\nodd = true\n")
    assert main(["workload", "put", str(path), *asking]) == NO
    assert "policy.invalid" in capsys.readouterr().out
    path.write_bytes(b"\xff")
    assert main(["workload", "put", str(path), *asking]) == MISUSED
    assert main(["workload", "put", str(tmp_path / "none"), *asking]) == MISUSED


def test_no_command_prints_a_token(
    verifier: RunningVerifier, asking: list[str], capsys: Out
) -> None:
    node = SimulatedNode()
    verifier.trust(node)
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    process = node.new_process()
    player.attest([process])
    key, _, token = player.tokens[process.key_name]
    for command in (
        ["credential", "list", "--all"],
        ["ledger", "tail"],
        ["node", "list"],
        ["status"],
    ):
        for form in ([], ["--json"]):
            assert main([*command, *asking, *form]) == YES
    told = capsys.readouterr().out
    assert token.split(".")[2] not in told
    assert key.hex() not in told


def test_nobody_there_could_not_tell(tmp_path: Path, capsys: Out) -> None:
    assert main(["status", "--socket", str(tmp_path / "none")]) == UNKNOWN
    assert "does `verifier serve` run?" in capsys.readouterr().err
    assert main(["status", "--config", str(tmp_path / "none")]) == MISUSED


def test_the_program_serves_until_it_is_told_to_stop(home: Path) -> None:
    (home / "ek-roots/manufacturer.der").write_bytes(MANUFACTURER.root())
    node = SimulatedNode()
    (home / "allow-list").write_text(f"{ek_hash(node.tpm.ek.encode())} {node.name}\n")
    command = [sys.executable, "-m", "verifier", "serve", "--config", str(home / "verifier.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.fullmatch(r"verifier: listens on https://127\.0\.0\.1:([0-9]+)\n", line)
        assert found, line
        door = Door(int(found[1]), trusting(home / "ca.pem"))
        enrolled = door.answer_activation(node.answer(door.enrol(node.enrol_message())))
        assert enrolled.status == "enrolled"
        with pytest.raises(Refused):
            door.wanted(node.wanted(node.new_process()))
        socket = home / "state/verifier.sock"
        assert client.call(socket, "status")["nodes"]["enrolled"] == 1
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == YES
        assert not socket.exists()
