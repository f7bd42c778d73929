"""The payment program's user, who attacks it: all that a user may do, may be done to their own."""

from demo.world import World
from swtpm.programs import BUILD

ATTACKS = BUILD / "attacks"
ATTACKER = "/home/payments/attacker"
"""A program of the user's own."""


def attack(world: World, command: str) -> str:
    """Have the payment program's user attack; return what the attacker says."""
    program = (ATTACKS / "attacker").read_bytes()
    world.machine.put(ATTACKER, program, owner="payments", mode=0o755)
    done = world.machine.run(f"{ATTACKER} {command}", user="payments", timeout=60)
    return done.check().output
