"""One scene of the demo: what was tried, what came back, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from demo.world import World

Outcome = Literal["granted", "refused", "revoked", "does-not-open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a scene ended."""

    got: Outcome
    reasons: tuple[str, ...]
    """Stable reason codes; a scene that grants something has none."""
    why: tuple[str, ...]
    """Lines for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A name, what is tried, what should come of it, and how to play it."""

    name: str
    tried: str
    expected: Outcome
    play: Callable[[World], Played]


def tell(scene: Scene, played: Played) -> None:
    """Print a scene for people."""
    mark = "as expected" if played.got == scene.expected else f"EXPECTED {scene.expected.upper()}"
    print(f"\n{scene.name}")
    print(f"  tried      {scene.tried}")
    print(f"  came back  {played.got} ({mark})")
    for number, line in enumerate(played.why):
        print(f"  {'why' if number == 0 else '':9}  {line}")
    for reason in played.reasons:
        print(f"  reason     {reason}")


def record(scene: Scene, played: Played) -> dict[str, object]:
    """Return the scene's object in demo.json."""
    return {
        "scene": scene.name,
        "expected": scene.expected,
        "got": played.got,
        "reasons": list(played.reasons),
    }
