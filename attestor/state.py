"""The few facts that outlive the attestor: whom it enrolled as, which instances this boot had."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """None of it is secret, and none of it is believed by the verifier."""

    node: str = ""
    """The name that it last enrolled as; empty before."""
    ek_hash: str = ""
    boot: str = ""
    """The boot to which `instances` belong."""
    instances: tuple[str, ...] = ()
    """SHA-256, hexadecimal, of each instance key that extends PCR 15, oldest first."""
    hand_overs: tuple[str, ...] = ()
    """Encoded SignedMessages, hexadecimal, each a HandOver of this boot, oldest first."""
    canaries: int = 0
    """Places where canaries were let loose in this boot."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Return what was saved, or the empty state of a first start."""
        try:
            members = json.loads((directory / STATE_FILE).read_text())
        except FileNotFoundError:
            return cls()
        try:
            lists = {
                "instances": tuple(members["instances"]),
                "hand_overs": tuple(members.get("hand_overs", ())),
            }
            return cls(**{**members, **lists})
        except (TypeError, KeyError) as error:
            path = directory / STATE_FILE
            raise ValueError(f"{path} is not the attestor's state; remove it and reboot") from error

    def save(self, directory: Path) -> None:
        """Write it so that a crash leaves the old or the new one."""
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / STATE_FILE
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def of_boot(self, boot: str) -> Self:
        """Return the state with nothing of another boot in it."""
        return (
            self
            if self.boot == boot
            else replace(self, boot=boot, instances=(), hand_overs=(), canaries=0)
        )
