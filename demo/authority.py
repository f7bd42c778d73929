"""The demo's verifier: what it trusts, and what it accepts."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from attestor.enrolment import identify
from attestor.tpm import Tpm
from demo.names import EK, ISSUER, NODE, TRUST_DOMAIN
from demo.servers import HERE, PROGRAMS
from swtpm import Failed, Manufacturer, SoftwareTpm, image, kernel_policy
from swtpm.kernels import Kernel
from swtpm.programs import BUILD, alone, say

WORKLOADS = ("payments.toml", "controller.toml", "signer.toml")


def run_verifier(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    """Run the program `verifier`; return its answer."""
    done = subprocess.run(
        [PROGRAMS / "verifier", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"verifier {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def make_verifier(directory: Path, manufacturer: Manufacturer, tpm: SoftwareTpm) -> Path:
    """Make a verifier that trusts the manufacturer and has this one TPM in its inventory."""
    home = directory / "verifier"
    run_verifier(
        "init", str(home), "--trust-domain", TRUST_DOMAIN, "--issuer", ISSUER, "--port", "0",
        "--host", "verifier.lab", "--host", "127.0.0.1", "--json",
    )  # fmt: skip
    run_verifier(
        "ca", "issue", "ledger", "--dir", str(home), "--host", "ledger.lab", "--host", "127.0.0.1",
        "--json",
    )  # fmt: skip
    shutil.copy(manufacturer.root_file, home / "ek-roots")
    shutil.copy(manufacturer.intermediate_file, home / "ek-roots")
    (home / "allow-list").write_text(f"{_ek_hash(tpm)} {NODE}\n")
    return home / "verifier.toml"


def _ek_hash(tpm: SoftwareTpm) -> str:
    """Return what stands on the delivery note of a machine with this TPM."""
    with tpm as tcti, Tpm(tcti, ek=EK) as opened:
        return identify(opened).ek_hash


def _references(kernel: str) -> list[Path]:
    """Make the reference sets of the machine's files, unless they are there."""
    made = BUILD / "reference"
    image.make()
    stamp = (BUILD / "vm/disk.stamp").read_text()
    sets = {"machine": BUILD / "vm/tree", "payments": BUILD / "vm/extra"}
    for name, tree in sets.items():
        held = made / f"{name}.stamp"
        if held.exists() and held.read_text() == stamp:
            continue
        say(f"reference set {name}: the digests of {tree}")
        made.mkdir(exist_ok=True)
        target = str(made / f"{name}.toml")
        run_verifier("reference", "make", name, "--tree", str(tree), "-o", target, "--quiet")
        held.write_text(stamp)
    kernels = made / f"kernel-{kernel}.toml"
    found = Kernel.at(kernel)
    with tempfile.TemporaryDirectory() as only:  # modules may lie beside it
        shutil.copy(found.image, Path(only, "vmlinuz"))
        run_verifier(
            "reference", "make", "kernel", "--tree", only,
            "--buffer", f"kernel_version={found.release}", "-o", str(kernels), "--quiet",
        )  # fmt: skip
    return [*(made / f"{name}.toml" for name in sets), kernels]


def load_policy(config: Path, kernel: str, minimum: str) -> None:
    """Tell the verifier which files, which kernel policy and which workload are accepted."""
    rules = config.parent / "ima-policy"
    rules.write_bytes(kernel_policy.render())
    ending = ("--config", str(config), "--json")
    with alone(BUILD / "reference"):
        references = [str(path) for path in _references(kernel)]
        run_verifier("reference", "put", *references, *ending)
    run_verifier("kernel-policy", "put", str(rules), *ending)
    for name in WORKLOADS:
        workload = config.parent / name
        text = (HERE / "policy" / name).read_text()
        workload.write_text(text.replace('minimum = "lab"', f'minimum = "{minimum}"'))
        run_verifier("workload", "put", str(workload), *ending)
