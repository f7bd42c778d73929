"""A node in a box: a TPM manufacturer, software TPMs, and a virtual machine with a real kernel.

    from swtpm import Manufacturer, SoftwareTpm, VirtualMachine

    tpm = Manufacturer.at(build / "manufacturer").make_tpm(build / "tpm")
    with VirtualMachine.boot(tpm=tpm) as machine:
        print(machine.run("cat /sys/kernel/security/ima/runtime_measurements_count").output)

For the demo and for tests: nothing in the rooms imports it.
"""

from swtpm.firmware import Firmware
from swtpm.machine import VirtualMachine
from swtpm.manufacturer import Manufacturer
from swtpm.payload import Payload
from swtpm.programs import Failed
from swtpm.shell import Result
from swtpm.tpm import SoftwareTpm

__all__ = [
    "Failed",
    "Firmware",
    "Manufacturer",
    "Payload",
    "Result",
    "SoftwareTpm",
    "VirtualMachine",
]
