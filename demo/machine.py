"""The machine that the attestor runs in, and what is put into it before it boots."""

import json
import re
from pathlib import Path

from demo.names import EK, ISSUER, NODE
from demo.servers import HERE
from swtpm import Failed
from swtpm.payload import Payload

LOOK_SECONDS = 30
"""The machine is emulated, and whoever runs it may have other work: a look is waited for."""


def make_payload(keys: Path, interval_seconds: int) -> Payload:
    """Return the attestor's configuration and the CA that the machine's programs trust."""
    sample = (HERE.parent / "attestor" / "sample.toml").read_text()
    values = {
        "node": NODE,
        "verifier": ISSUER,
        "ek": EK,
        "interval": f"{interval_seconds}s",
        "look_seconds": LOOK_SECONDS,
    }
    for name, value in values.items():
        line = f"{name} = {json.dumps(value)}"
        sample, found = re.subn(rf"(?m)^(# )?{name} = .*$", line, sample)
        if found != 1:
            raise Failed(f"the attestor's sample has no line for {name}")
    payload = Payload()
    payload.add_directory("/etc/procseal", owner="attestor", mode=0o755)
    payload.add("/etc/procseal/attestor.toml", sample.encode(), owner="attestor")
    payload.add("/etc/procseal/ca.pem", (keys / "ca.pem").read_bytes(), owner="attestor")
    return payload
