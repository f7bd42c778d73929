"""The golden program: started in its unit, asked for, and what the verifier knows of it."""

from demo.names import LEDGER, PAYMENTS
from demo.said import has_ended, reasons_in
from demo.scene import Played
from demo.waiting import PATIENCE_SECONDS, wait
from demo.world import World

UNIT = "payments.service"
ARGUMENTS = f"-i {PAYMENTS} -a {LEDGER} -c /etc/procseal/ca.pem"


def start_golden(world: World, name: str) -> tuple[int, str]:
    """Start the golden program anew; return its pid and its token's jti when it has been served."""
    pid = world.start_as("payments", UNIT, f"/usr/bin/payments {ARGUMENTS} -k /post", name)
    world.wait_for_output(name, "answer ")
    return pid, live_token(world)


def ask(world: World, user: str, unit: str, program: str, name: str) -> Played:
    """Run a program that asks for the payment program's identity, and tell what it was told."""
    world.start_as(user, unit, f"{program} {ARGUMENTS} /post", name)
    said = wait(
        lambda: text if has_ended(text := world.output(name)) else "",
        PATIENCE_SECONDS,
        f"{name} to end",
    )
    if "granted " in said:
        return Played(got="granted", reasons=(), why=tuple(said.splitlines()))
    return Played(got="refused", reasons=reasons_in(said), why=tuple(said.splitlines()))


def live_token(world: World) -> str:
    """Return the jti of the one token of the golden program's that is valid."""
    valid = [one for one in world.credentials() if one["status"] == "valid"]
    [jti] = [str(one["jti"]) for one in valid if one["workload"] == PAYMENTS]
    return jti


def cause_of_end(world: World, jti: str) -> str:
    """Return why a token was revoked; empty while it is valid."""
    return next(str(one["cause"]) for one in world.credentials() if one["jti"] == jti)
