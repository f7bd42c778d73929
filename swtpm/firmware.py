"""The machine's firmware: OVMF with Secure Boot on, and a set of keys that was made here.

The keys are an owner's: a platform key (PK), a key-exchange key (KEK) and one that signs what may
boot (db). No vendor's key is enrolled, so nothing boots but what `Firmware.sign` signed.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from swtpm.certificates import save_signer
from swtpm.programs import BUILD, Failed, alone, run, say

CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
"""Variables are written in system management mode only: the running system cannot change them."""

EMPTY_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

KEYS = ("PK", "KEK", "db")

OWNER = "6b2f7d0e-5a51-4c0e-9d0e-6f776e657200"
"""SignatureOwner of each key, UEFI 2.10 32.4.1: any GUID of whoever enrols it."""

HARDWARE = (
    "-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
    "-global", "ICH9-LPC.disable_s3=1",
)  # fmt: skip

FIRMWARE_SAYS = "BdsDxe: "
REFUSALS = tuple(FIRMWARE_SAYS + what for what in ("failed to", "No bootable option"))
"""What the firmware prints when it does not boot an image."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """An owner's keys, and the variables in which they are enrolled."""

    directory: Path

    @classmethod
    def at(cls, directory: Path = BUILD / "firmware") -> "Firmware":
        """Return the firmware whose keys are in a directory; make them if there are none."""
        if not CODE.exists():
            raise Failed(f"{CODE} is not installed; run: make setup")
        firmware = cls(directory)
        with alone(directory):
            if not firmware.variables.exists():
                firmware._enrol()
        return firmware

    @property
    def variables(self) -> Path:
        """The variable store that every boot begins with a copy of."""
        return self.directory / "variables.fd"

    def certificate(self, name: str) -> Path:
        """Return the certificate of a key, PEM: "PK", "KEK" or "db"."""
        return self.directory / f"{name}.pem"

    def sign(self, image: Path, target: Path) -> None:
        """Sign an image with the key in db; the signature goes into the file."""
        run(
            "sbsign", "--key", self.directory / "db.key", "--cert", self.certificate("db"),
            "--output", target, image,
        )  # fmt: skip

    def options(self, scratch: Path) -> list[str]:
        """Return qemu's options; the variables are copied to a file of this boot."""
        shutil.copyfile(self.variables, scratch)
        return [
            *HARDWARE,
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={CODE}",
            "-drive", f"if=pflash,unit=1,format=raw,file={scratch}",
        ]  # fmt: skip

    def _enrol(self) -> None:
        say("keys of the machine's firmware")
        for name in KEYS:
            save_signer(f"procseal test {name}", self.certificate(name))
        words: list[str | Path] = []
        for option, name in zip(("--set-pk", "--add-kek", "--add-db"), KEYS, strict=True):
            words += [option, OWNER, self.certificate(name)]
        fresh = self.variables.with_suffix(".new")
        run(
            sys.executable, "-m", "virt.firmware.vars", "--input", EMPTY_VARIABLES,
            "--output", fresh, *words, "--secure-boot",
        )  # fmt: skip
        fresh.replace(self.variables)
