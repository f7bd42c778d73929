"""The golden program in C, against a real socket, a real relying party and much nonsense."""
# ruff: noqa: ANN401 - arguments of subprocess.run

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from credential import Finding
from credential.local import Message, Obtain, Prove, Refusal
from tests.credential import fake_attestor
from tests.credential.conftest import ROOT, Site
from tests.credential.fake_attestor import FakeAttestor
from tests.credential.world import AUDIENCE, ID

Start = Callable[..., FakeAttestor]
BANNER = "payments: procseal demo program, revision 1"
CHANGED = Finding(reason="process.changed", what="/usr/bin/payments", found="b")


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    arguments = [str(one) for one in command]
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.fixture
def call(payments: Path, attestor: FakeAttestor, site: Site, relying_party: str) -> list[object]:
    """The command up to its paths."""
    return [
        payments, "-s", attestor.path, "-a", AUDIENCE, "-c", site.ca, "-H", relying_party,
    ]  # fmt: skip


def test_it_obtains_proves_and_is_let_in(call: list[object]) -> None:
    ran = run(*call, "-i", ID, "-t", "/post")
    banner, granted, token, presented, answer = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr, banner) == (0, "", BANNER)
    assert granted.startswith(f"granted {ID} level=lab expires=")
    assert token == f"token {fake_attestor.token()}"
    assert presented.startswith("presented eyJ")
    assert answer.startswith('answer 200 {"verdict": "granted"')


def test_it_follows_its_input(call: list[object]) -> None:
    ran = run(*call, "-k", "/post", input="POST /post\ntoken\nGET /post?a=b\nPOST /elsewhere\n")
    answers = [line.split(" ")[:2] for line in ran.stdout.splitlines()[2:]]
    assert answers == [
        ["answer", "200"], ["answer", "200"], ["token", fake_attestor.token()],
        ["answer", "405"], ["answer", "404"],
    ]  # fmt: skip
    assert ran.returncode == 1


def test_a_launched_one_uses_its_channel(payments: Path, attestor: FakeAttestor) -> None:
    with attestor.socket_pair() as channel:
        environment = {"PROCSEAL_FD": str(channel.fileno())}
        ran = run(payments, "-s", "/nonexistent", env=environment, pass_fds=[channel.fileno()])
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[1].startswith(f"granted {ID}")


def test_one_changed_byte_still_runs(
    payments: Path, attestor: FakeAttestor, tmp_path: Path
) -> None:
    patched = tmp_path / "patched"
    golden = payments.read_bytes()
    assert golden.count(b"revision 1") == 1
    patched.write_bytes(golden.replace(b"revision 1", b"revision 2"))
    patched.chmod(0o755)
    ran = run(patched, "-s", attestor.path)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[0] == BANNER.replace("1", "2")


def test_a_sibling_is_the_same_source_under_another_name(tmp_path: Path) -> None:
    sibling = tmp_path / "sibling"
    source = ROOT / "demo" / "payments.c"
    name = '-DPROGRAM_NAME="sibling"'
    subprocess.run(["gcc", name, "-o", sibling, source, "-lssl", "-lcrypto"], check=True)
    assert run(sibling, "-s", "/nonexistent").stdout == BANNER.replace("payments", "sibling") + "\n"


def test_a_refusal_is_printed_and_exits_1(payments: Path, start_attestor: Start) -> None:
    findings = (CHANGED, Finding(reason="node.unknown"))
    attestor = start_attestor(to_obtain=lambda _: Refusal.of(findings))
    ran = run(payments, "-s", attestor.path)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[1:] == [
        "refused process.changed",
        "  what      /usr/bin/payments",
        "  found     b",
        "refused node.unknown",
    ]


def test_a_refused_proof_does_not_end_it(
    payments: Path, start_attestor: Start, site: Site, relying_party: str
) -> None:
    answers: list[Any] = [Refusal.of((CHANGED,)), None]

    def to_prove(asked: Prove) -> Message:
        return answers.pop(0) or fake_attestor.to_prove(asked)

    attestor = start_attestor(to_prove=to_prove)
    place = ["-s", attestor.path, "-c", site.ca, "-H", relying_party]
    ran = run(payments, *place, "-a", AUDIENCE, "/post", "/post")
    assert "refused process.changed" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith("answer 200")
    assert ran.returncode == 1


def test_a_server_by_another_ca_hears_nothing(
    call: list[object], make_site: Callable[[], Site]
) -> None:
    ran = run(*call, "-c", make_site().ca, "/post")
    assert ran.returncode == 3
    assert "certificate verify failed" in ran.stderr
    assert "answer" not in ran.stdout


def test_a_server_of_another_name_hears_nothing(call: list[object]) -> None:
    for base in ("https://other.example.org", "https://127.0.0.1"):
        ran = run(*call, "-u", base, "/post")
        assert ran.returncode == 3
        assert "certificate verify failed" in ran.stderr


def test_a_relying_party_that_is_not_there(call: list[object]) -> None:
    ran = run(*call, "-H", "127.0.0.1:1", "/post")
    assert ran.returncode == 3
    assert "127.0.0.1:1" in ran.stderr


def test_no_attestor(payments: Path) -> None:
    ran = run(payments, "-s", "/nonexistent/a.sock")
    assert ran.returncode == 3
    assert "/nonexistent/a.sock" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["-x"], ["-s"], ["-s", "x" * 200], ["-a", "payments"], ["-u", "http://a"],
        ["-u", "https://a/b"],
    ],
    ids=repr,
)  # fmt: skip
def test_misuse(payments: Path, arguments: list[str]) -> None:
    ran = run(payments, *arguments)
    assert ran.returncode == 2
    assert ran.stderr


@pytest.mark.parametrize("line", ["POST post\n", "nonsense\n", "\n", "POST /post\n"])
def test_misused_input(payments: Path, attestor: FakeAttestor, line: str) -> None:
    assert run(payments, "-s", attestor.path, "-k", input=line).returncode == 2


@pytest.mark.parametrize("value", ["", "three", "-1", "99999999999999999999", "77"])
def test_a_channel_that_is_none(payments: Path, value: str) -> None:
    assert run(payments, env={"PROCSEAL_FD": value}).returncode in (2, 3)


NONSENSE = [
    b"", b"\n", b"\0", b"x", b"procseal/1 ", b"procseal/1 nonce\n", b"procseal/1 nonce",
    b"procseal/1 nonce\nnonce: \0\n", b"procseal/1 credential\n", b"procseal/1 credential\nid: a\n",
    b"procseal/1 proof\ntoken: a\n", b"procseal/1 refused\nreason\n", b"procseal/1 refused\n\n",
    b"\xff" * 100, b"x" * 65536, b"x" * 65537, b"\n" * 65536,
    b"procseal/1 refused\n" + b":" * 60000,
    b"procseal/1 nonce\nnonce: " + b"0" * 65000 + b"\n",
    b"procseal/1 proof\ntoken: " + b"a" * 60000 + b"\nproof: " + b"b" * 5000 + b"\n",
    b"procseal/1 nonce\n" + b"nonce: %s%n\n" * 1000,
]  # fmt: skip


@pytest.mark.parametrize("answer", ["nonce", "to_obtain", "to_prove"])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=range(len(NONSENSE)))
def test_an_attestor_that_makes_no_sense_ends_it_in_words(
    sanitized_payments: Path, start_attestor: Start, answer: str, nonsense: bytes
) -> None:
    attestor = start_attestor(**{answer: lambda *_: nonsense})
    arguments = ["-s", attestor.path, "-a", AUDIENCE, "-c", "/nonexistent", "/post"]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    ran = run(sanitized_payments, *arguments, env=environment)
    assert ran.returncode in (1, 2, 3)
    assert "ERROR" not in ran.stderr
    assert "runtime error" not in ran.stderr


def test_it_says_what_it_wants_in_the_protocols_words(
    call: list[object], attestor: FakeAttestor
) -> None:
    run(*call, "-i", ID, "/post")
    obtain, prove = attestor.heard
    assert isinstance(obtain, Obtain)
    assert obtain.id == ID
    assert prove == Prove(audience=AUDIENCE, method="POST", url=f"{AUDIENCE}/post")


def test_it_gives_a_job_to_the_step_that_it_starts(
    call: list[object], attestor: FakeAttestor, tmp_path: Path
) -> None:
    """And to nothing else that it starts."""
    told = tmp_path / "told"
    look = f"{{ echo $PROCSEAL_JOB_FD; readlink /proc/self/fd/$PROCSEAL_JOB_FD; }} >{told}"
    lines = ["job build-17", f"step {look}.step", f"run {look}.run", "end", "token"]
    ran = run(*call, "-k", input="".join(f"{line}\n" for line in lines))
    assert ran.stdout.splitlines()[2:] == ["job build-17", f"token {fake_attestor.token()}"]
    assert attestor.jobs[0].recv(1) == b""
    step, other = (told.with_suffix(f".{one}") for one in ("step", "run"))
    wait_until(lambda: step.exists() and other.exists() and step.read_text().count("\n") == 2)
    assert step.read_text().splitlines()[1].startswith("socket:")
    assert other.read_text().splitlines()[0] == ""


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
