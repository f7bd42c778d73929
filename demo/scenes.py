"""The scenes, in the order in which they are played.

`unknown-root-program` is the last: nothing cures its node but a reboot.
"""

import asyncio
import hashlib
import json
import re
import secrets
import ssl
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp

from attestor.tpm import Tpm, TpmFailed
from credential import Keys, crypto, grant, wit, wpt
from credential.grant import Grant
from demo.build import Build
from demo.scene import Played, Scene
from demo.world import (
    EK,
    INTERVAL_SECONDS,
    LEDGER,
    PAYMENTS,
    TRUST_DOMAIN,
    World,
)
from evidence.messages import Body, Evidence, Result, SignedMessage
from evidence.tpm import Public
from swtpm import Failed
from swtpm.programs import BUILD
from verifier.crypto.activation import ENTROPY_BYTES, make_credential

UNIT = "payments.service"
ARGUMENTS = f"-i {PAYMENTS} -a {LEDGER} -c /etc/procseal/ca.pem"
SIGNATURE = "/builds/build-17"
"""Where the relying party takes signatures of that build."""
ATTACKS = BUILD / "attacks"
ATTACKER = "/home/payments/attacker"
"""A program of the user's own: all that a user may do, may be done to their processes."""
PRELOADED = "/home/payments/preloaded.so"
PATCHED_BYTE = b"revision 1", b"revision 2"
"""The one byte by which the patched program differs."""


def play_golden(world: World) -> Played:
    """Run the payment program in its unit; it asks, and calls the relying party."""
    world.golden = world.start_as(
        "payments", UNIT, f"/usr/bin/payments {ARGUMENTS} -t -k /post", "golden"
    )
    said = world.wait_for_output("golden", "answer ")
    status, body = _last_answer(said)
    world.token = _line(said, "token ")
    if status != HTTPStatus.OK:
        return Played(got="refused", reasons=_reasons(said), why=tuple(said.splitlines()))
    who = json.loads(body)
    why = (
        f"{who['executable']} is what the operator knows as payments",
        "it runs as its user, in its unit, and maps nothing but known files",
        f"credential {_line(said, 'granted ')}",
        f"the relying party let it in: {body}",
    )
    return Played(got="granted", reasons=(), why=why)


def play_copied_token(world: World) -> Played:
    """Present the golden program's token from the host: without a proof, then with a forged one."""
    stranger = crypto.generate()
    forged = wpt.compose(
        token=world.token,
        audience=LEDGER,
        method="POST",
        url=f"{LEDGER}/post",
        now=datetime.now(UTC),
        jti=secrets.token_bytes(16),
    ).sign(stranger)
    answers = [present(world, {"Workload-Identity-Token": world.token, **extra}) for extra in (
        {},
        {"Workload-Proof-Token": forged},
    )]  # fmt: skip
    reasons = tuple(one["reason"] for _, body in answers for one in body.get("findings", ()))
    was_let_in = any(status == HTTPStatus.OK for status, _ in answers)
    return Played(
        got="granted" if was_let_in else "refused",
        reasons=reasons,
        why=tuple(f"{name}: HTTP {status}" for name, (status, _) in zip(
            ("without a proof", "with a proof by another key"), answers, strict=True)),
    )  # fmt: skip


def play_stolen_proof(world: World) -> Played:
    """Present the golden program's token with its own proof: a second time, then elsewhere."""
    stolen = {
        "Workload-Identity-Token": world.token,
        "Workload-Proof-Token": _line(world.output("golden"), "presented "),
    }
    places = {"the same request again": "/post", "another request": SIGNATURE}
    answers = [present(world, stolen, path) for path in places.values()]
    was_let_in = any(status == HTTPStatus.OK for status, _ in answers)
    return Played(
        got="granted" if was_let_in else "refused",
        reasons=tuple(one["reason"] for _, body in answers for one in body.get("findings", ())),
        why=tuple(
            f"{name}: HTTP {status}" for name, (status, _) in zip(places, answers, strict=True)
        ),
    )


def play_patched(world: World) -> Played:
    """Let an ordinary user run a copy of the payment program with one byte changed."""
    program = world.machine.get("/usr/bin/payments")
    changed = program.replace(*PATCHED_BYTE)
    if sum(a != b for a, b in zip(program, changed, strict=True)) != 1:
        raise Failed("expected to change exactly one byte of the payment program")
    world.machine.put("/home/alice/payments", changed, owner="alice", mode=0o755)
    return _ask(world, "alice", "alice.service", "/home/alice/payments", "patched")


def play_sibling(world: World) -> Played:
    """Let another known program of the same user, in the same unit, ask for the same identity."""
    return _ask(world, "payments", UNIT, "/usr/bin/sibling", "sibling")


def play_preloaded(world: World) -> Played:
    """Start the payment program, as its user, with a library of that user's in it."""
    library = (ATTACKS / "preloaded.so").read_bytes()
    world.machine.put(PRELOADED, library, owner="payments", mode=0o755)
    program = f"env LD_PRELOAD={PRELOADED} /usr/bin/payments"
    played = _ask(world, "payments", UNIT, program, "preloaded")
    if not any(line.startswith("preloaded: ") for line in played.why):
        raise Failed("the library was not in the program")
    return played


def play_passed_socket(world: World) -> Played:
    """Let a process of the same user ask for a proof on the golden process's connection."""
    said = _attack(world, f"borrow {world.golden} {LEDGER} POST {LEDGER}/post")
    refusals = tuple(re.findall(r"(?m)^reason: (\S+)", said))
    before = len(world.output("golden").splitlines())
    world.machine.run("echo 'POST /post' >/tmp/golden.in").check()
    after = world.wait(lambda: world.output("golden").splitlines()[before:], 40, "an answer")
    return Played(
        got="granted" if "procseal/1 proof" in said else "refused",
        reasons=refusals,
        why=(
            *re.findall(r"(?m)^(?:what|expected|found): .+", said),
            f"the golden process itself is served as before: {after[0]}",
        ),
    )


def play_replayed_evidence(world: World) -> Played:
    """Send evidence again that was accepted a moment ago."""
    recorded = world.recorder.last("/v1/evidence")
    status, answer = world.recorder.send("/v1/evidence", recorded.request)
    findings = json.loads(answer)["findings"] if status != HTTPStatus.OK else []
    return Played(
        got="granted" if status == HTTPStatus.OK else "refused",
        reasons=tuple(one["reason"] for one in findings),
        why=(
            f"{len(recorded.request)} bytes of genuine evidence, sent again: HTTP {status}",
            "each challenge counts once, and the quote answers that one challenge",
        ),
    )


def play_wrong_machine(world: World) -> Played:
    """Carry the golden program's sealed credential to a second TPM of the same maker."""
    sealed = _first_grant(world)
    second = world.manufacturer.make_tpm(world.directory / "second-tpm")
    with second as tcti, Tpm(tcti, ek=EK) as tpm:
        key = tpm.create_process_key(sealed.core)
        ek = Public.decode(tpm.ek_public())
        own = make_credential(
            ek, name=key.name, secret=bytes(32), entropy=secrets.token_bytes(ENTROPY_BYTES)
        )
        if tpm.activate_process_key(key, *own) != bytes(32):
            raise Failed("the second TPM does not open what is sealed to it")
        try:
            tpm.activate_process_key(key, sealed.id_object, sealed.encrypted_secret)
        except TpmFailed as failure:
            return Played(
                got="does-not-open",
                reasons=("activation.failed",),
                why=(
                    "the second TPM opens what is sealed to a key of its own, and not this:",
                    str(failure),
                ),
            )
    return Played(got="granted", reasons=(), why=("the second TPM opened it",))


def play_gone(world: World) -> Played:
    """End the golden process, and see its credential end."""
    jti = _live(world)
    started = time.monotonic()
    world.machine.run(f"kill -KILL {world.golden}").check()
    cause = world.wait(lambda: _cause(world, jti), 20, "the credential's end")
    seconds = time.monotonic() - started
    held = json.loads(
        world.machine.run("attestor status --json", user="payments", timeout=60).output
    )
    signs = bool(held["yours"])
    return Played(
        got="granted" if signs else "revoked",
        reasons=(cause,),
        why=(
            f"revoked {seconds:.1f} s after the process was killed",
            f"keys that the attestor still holds for this user: {len(held['yours'])}",
        ),
    )


def play_text_patched(world: World) -> Played:
    """Let a process of the same user change the text of a golden one that has its credential."""
    pid, jti = _start_golden(world, "victim")
    _attack(world, f"patch {pid}")
    before = len(world.output("victim").splitlines())
    world.machine.run("echo 'POST /post' >/tmp/victim.in").check()
    lines = world.wait(lambda: world.output("victim").splitlines()[before:], 40, "an answer")
    cause = world.wait(lambda: _cause(world, jti), 20, "the credential's end")
    world.machine.run(f"kill -KILL {pid}").check()
    refusals = _reasons("\n".join(lines))
    return Played(
        got="refused" if refusals else "granted",
        reasons=(*refusals, cause),
        why=("eight bytes of its text were changed, and it asked for a proof:", *lines),
    )


def play_exec_after(world: World) -> Played:
    """Let a golden process that has its credential execute another program, also known."""
    pid, jti = _start_golden(world, "changeling")
    _attack(world, f"execute {pid} /usr/bin/cat")
    started = time.monotonic()
    cause = world.wait(lambda: _cause(world, jti), 20, "the credential's end")
    seconds = time.monotonic() - started
    now = world.machine.run(f"readlink /proc/{pid}/exe").check().output
    world.machine.run(f"kill -KILL {pid}").check()
    return Played(
        got="revoked" if now == "/usr/bin/cat" else "granted",
        reasons=(cause,),
        why=(
            f"pid {pid}, its start and its parent are the same; it runs {now} now",
            f"revoked {seconds:.1f} s later",
        ),
    )


def play_build_step(world: World) -> Played:
    """Let a build's controller have a program launched that signs."""
    build = Build(world)
    build.start()
    build.open_job("build-17")
    said = build.launch("signer", "signer", job="build-17", signs=SIGNATURE)
    if "answer 200 " not in said:
        return Played(got="refused", reasons=_reasons(said), why=tuple(said.splitlines()))
    why = (
        "the controller has a job, build-17, and the attestor launched the signer for it",
        f"credential {_line(said, 'granted ')}",
        f"the relying party takes it from a step of that job: {_last_answer(said)[1]}",
    )
    return Played(got="granted", reasons=(), why=why)


def play_build_helper(world: World) -> Played:
    """Let a helper of the controller's launch the signer: it was not given the job."""
    said = Build(world).launch("helper", "signer", job="", signs=SIGNATURE, is_given=False)
    return Played(
        got="granted" if "granted " in said else "refused",
        reasons=_reasons(said),
        why=("a child of the controller's, while the job is open:", *said.splitlines()),
    )


def play_other_job(world: World) -> Played:
    """Let the controller have the same program launched for another job, and sign this one."""
    build = Build(world)
    build.open_job("build-18")
    status, body = _last_answer(build.launch("stray", "signer", job="build-18", signs=SIGNATURE))
    findings = json.loads(body).get("findings", [])
    return Played(
        got="granted" if status == HTTPStatus.OK else "refused",
        reasons=tuple(one["reason"] for one in findings),
        why=(
            "its token names the job that it is a step of",
            *(f"expected {one['expected']}, found {one['found']}" for one in findings),
        ),
    )


def play_build_over(world: World) -> Played:
    """End the controller, and see the credential of its step end."""
    build = Build(world)
    jti = wit.read_unverified(_line(world.output("signer"), "token ")).jti
    started = time.monotonic()
    build.kill()
    cause = world.wait(lambda: _cause(world, jti), 20, "the end of the step's credential")
    seconds = time.monotonic() - started
    said = build.ask("signer", SIGNATURE)
    return Played(
        got="revoked" if _reasons(said) else "granted",
        reasons=(cause,),
        why=(
            f"revoked {seconds:.1f} s after the controller was killed",
            "the step itself runs, and asks for a proof:",
            *said.splitlines(),
        ),
    )


def play_unknown_root_program(world: World) -> Played:
    """Run a program that nobody knows as root, beside a golden process that has a credential."""
    world.golden, jti = _start_golden(world, "again")
    world.machine.run("cp /usr/bin/true /root/unknown && echo >>/root/unknown").check()
    started = time.monotonic()
    world.machine.run("/root/unknown").check()
    cause = world.wait(lambda: _cause(world, jti), 30, "the credential's end")
    seconds = time.monotonic() - started
    refusal = _last_refusal(world)
    return Played(
        got="revoked",
        reasons=(cause, *(one["reason"] for one in refusal)),
        why=(
            f"revoked {seconds:.1f} s later; the node brings evidence every {INTERVAL_SECONDS} s",
            *(_told(one) for one in refusal),
        ),
    )


def _start_golden(world: World, name: str) -> tuple[int, str]:
    """Start the golden program anew; return its pid and its token's jti when it has been served."""
    pid = world.start_as("payments", UNIT, f"/usr/bin/payments {ARGUMENTS} -k /post", name)
    world.wait_for_output(name, "answer ")
    return pid, _live(world)


def _attack(world: World, command: str) -> str:
    """Have the payment program's user attack; return what the attacker says."""
    program = (ATTACKS / "attacker").read_bytes()
    world.machine.put(ATTACKER, program, owner="payments", mode=0o755)
    done = world.machine.run(f"{ATTACKER} {command}", user="payments", timeout=60)
    return done.check().output


def _ask(world: World, user: str, unit: str, program: str, name: str) -> Played:
    """Run a program that asks for the payment program's identity, and tell what it was told."""
    world.start_as(user, unit, f"{program} {ARGUMENTS} /post", name)
    said = world.wait(
        lambda: text if _has_ended(text := world.output(name)) else "", 40, f"{name} to end"
    )
    if "granted " in said:
        return Played(got="granted", reasons=(), why=tuple(said.splitlines()))
    return Played(got="refused", reasons=_reasons(said), why=tuple(said.splitlines()))


def _has_ended(text: str) -> bool:
    return any(line.startswith(("refused ", "answer ", "granted ")) for line in text.splitlines())


def _reasons(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"(?m)^refused (\S+)", text))


def _line(text: str, start: str) -> str:
    return next(line.removeprefix(start) for line in text.splitlines() if line.startswith(start))


def _last_answer(text: str) -> tuple[int, str]:
    lines = [line for line in text.splitlines() if line.startswith("answer ")]
    _, status, body = lines[-1].split(" ", 2)
    return int(status), body


def present(
    world: World, headers: dict[str, str], path: str = "/post"
) -> tuple[int, dict[str, Any]]:
    """Call the relying party from the host."""

    async def call() -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context(cafile=world.config.parent / "ca.pem")
        url = f"https://127.0.0.1:{world.ledger_port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, headers=headers, ssl=context) as response,
        ):
            return response.status, await response.json()

    return asyncio.run(call())


def _first_grant(world: World) -> Grant:
    """Return what was recorded of the golden program's sealed credential."""
    keys = Keys.read(json.dumps(world.trust_domain()["grant_keys"]), trust_domain=TRUST_DOMAIN)
    for one in world.recorder.exchanges:
        if one.path != "/v1/evidence":
            continue
        evidence = Evidence.decode(SignedMessage.decode(one.request).payload)
        for process in Body.decode(evidence.body).new:
            name = Public.decode(process.public).name()
            outcomes = Result.decode(one.answer).outcomes
            return grant.read(
                next(outcome.grant for outcome in outcomes if outcome.key_name == name),
                keys,
                node=evidence.node,
                key_name=name,
                core=hashlib.sha256(process.core).digest(),
                challenge=evidence.challenge,
                next_step=0,
            )
    raise Failed("nobody recorded the golden program's sealed credential")


def _live(world: World) -> str:
    """Return the jti of the one token of the golden program's that is valid."""
    valid = [one for one in world.credentials() if one["status"] == "valid"]
    [jti] = [str(one["jti"]) for one in valid if one["workload"] == PAYMENTS]
    return jti


def _cause(world: World, jti: str) -> str:
    """Return why a token was revoked; empty while it is valid."""
    return next(str(one["cause"]) for one in world.credentials() if one["jti"] == jti)


def _last_refusal(world: World) -> list[dict[str, str]]:
    """Return the findings of the node's last refused evidence."""
    rows = world.operator("ledger", "tail", "-n", "50")
    refused = [row for row in rows if row["kind"] == "evidence.refused"]
    findings: list[dict[str, str]] = refused[-1]["body"]["findings"] if refused else []
    return findings


def _told(finding: dict[str, str]) -> str:
    return f"{finding['what']}: expected {finding['expected']}, found {finding['found']}"


SCENES = (
    Scene(
        name="golden",
        tried="a known program asks for its identity and calls a relying party",
        expected="granted",
        play=play_golden,
    ),
    Scene(
        name="copied-token",
        tried="its token, presented from elsewhere: without a proof, and with another key's",
        expected="refused",
        play=play_copied_token,
    ),
    Scene(
        name="stolen-proof",
        tried="its token and its proof, heard on the way: sent again, and to another URL",
        expected="refused",
        play=play_stolen_proof,
    ),
    Scene(
        name="patched",
        tried="the same program with one byte changed, run by an ordinary user",
        expected="refused",
        play=play_patched,
    ),
    Scene(
        name="preloaded",
        tried="the program itself, started by its user with a library of the user's (LD_PRELOAD)",
        expected="refused",
        play=play_preloaded,
    ),
    Scene(
        name="sibling",
        tried="another known program, same user, same unit, asks for the same identity",
        expected="refused",
        play=play_sibling,
    ),
    Scene(
        name="passed-socket",
        tried="its connection to the attestor, in the hands of another process of its user",
        expected="refused",
        play=play_passed_socket,
    ),
    Scene(
        name="replayed-evidence",
        tried="recorded evidence, sent again",
        expected="refused",
        play=play_replayed_evidence,
    ),
    Scene(
        name="wrong-machine",
        tried="the sealed credential, taken to a second TPM",
        expected="does-not-open",
        play=play_wrong_machine,
    ),
    Scene(
        name="gone",
        tried="the golden process is killed",
        expected="revoked",
        play=play_gone,
    ),
    Scene(
        name="text-patched",
        tried="a golden process's text, changed with ptrace after it got its credential",
        expected="refused",
        play=play_text_patched,
    ),
    Scene(
        name="exec-after",
        tried="a golden process executes another known program after it got its credential",
        expected="revoked",
        play=play_exec_after,
    ),
    Scene(
        name="build-step",
        tried="a build's controller has a program launched, which signs the build",
        expected="granted",
        play=play_build_step,
    ),
    Scene(
        name="build-helper",
        tried="the same program, launched by a helper of the controller's that has not the job",
        expected="refused",
        play=play_build_helper,
    ),
    Scene(
        name="other-job",
        tried="the right program of the right controller, for another job",
        expected="refused",
        play=play_other_job,
    ),
    Scene(
        name="build-over",
        tried="the controller is killed",
        expected="revoked",
        play=play_build_over,
    ),
    Scene(
        name="unknown-root-program",
        tried="root runs a program that nobody knows",
        expected="revoked",
        play=play_unknown_root_program,
    ),
)
