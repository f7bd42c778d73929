"""Scenes of what was stolen: a token, a proof, a connection, evidence, a sealed credential."""

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from http import HTTPStatus

from attestor.tpm import Tpm, TpmFailed
from credential import Keys, crypto, grant, wpt
from credential.grant import Grant
from demo.attacker import attack
from demo.build import SIGNATURE
from demo.names import EK, LEDGER, TRUST_DOMAIN
from demo.outsider import present
from demo.said import line_after
from demo.scene import Played
from demo.waiting import PATIENCE_SECONDS, wait
from demo.world import World
from evidence.messages import Body, Evidence, Result, SignedMessage
from evidence.tpm import Public
from swtpm import Failed
from verifier.crypto.activation import ENTROPY_BYTES, make_credential


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
        "Workload-Proof-Token": line_after(world.output("golden"), "presented "),
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


def play_passed_socket(world: World) -> Played:
    """Let a process of the same user ask for a proof on the golden process's connection."""
    said = attack(world, f"borrow {world.golden} {LEDGER} POST {LEDGER}/post")
    refusals = tuple(re.findall(r"(?m)^reason: (\S+)", said))
    before = len(world.output("golden").splitlines())
    world.machine.run("echo 'POST /post' >/tmp/golden.in").check()
    after = wait(
        lambda: world.output("golden").splitlines()[before:], PATIENCE_SECONDS, "an answer"
    )
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
