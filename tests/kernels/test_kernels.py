"""Kernels in the lab, each judged by our own code: lists, quote, registers, first records.

Without arguments, the host release's kernel with the templates that matter, and the kernel that
the lab takes by default. `make kernels` gives `--kernel all`: every kernel on the package mirror,
and the newest of each series with every template. Kernels of suites that are not released may
fail; they are named, and so are those that the mirror lists and no longer has. The table at the end
is `conftest.py`'s.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidence.ima import Measurement
from swtpm import Failed, Manufacturer, VirtualMachine, image, initramfs
from swtpm.capture import LIST, capture
from swtpm.kernels import NAMES, Kernel, ima_template
from swtpm.manufacturer import HASHES
from swtpm.packages import Gone
from swtpm.programs import BUILD
from tests.captures import Capture, check_capture
from tests.kernels.choice import DEFAULT_TEMPLATE, WITHOUT_IMA, Chosen
from verifier.reasons import Reason

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

MEASURES_INITRAMFS = (6, 15)
"""From this series on, the rules that are built in measure what runs in memory (`ima_policy=tcb`).

So the programs of the initramfs stand before the kernel policy that they load: evidence only where
a boot policy holds (`verifier.kernel_policy`).
"""

REFUSED = {"ima-buf": frozenset({Reason.BOOT_AGGREGATE_MISSING})}
"""With this template for files too, all of them look like critical data."""

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """A kernel's name; one that was fetched for the tests alone is gone afterwards."""
    name = str(request.param)
    root = BUILD / "kernels" / name
    is_kept = name in NAMES or Kernel(name, root).stamp.exists()
    yield name
    if not is_kept:
        shutil.rmtree(root, ignore_errors=True)


def boot(manufacturer: Manufacturer, state: Path, kernel: str, template: str) -> VirtualMachine:
    tpm = manufacturer.make_tpm(state, banks=tuple(HASHES))
    append = "" if template == DEFAULT_TEMPLATE else ima_template(template)
    return VirtualMachine.boot(tpm=tpm, kernel=kernel, append=append)


def test_kernel(
    kernel: str,
    chosen: Chosen,
    manufacturer: Manufacturer,
    tmp_path: Path,
    record_property: Record,
) -> None:
    record_property("kernel", kernel)
    record_property("suite", chosen.suite)
    record_property("template", chosen.template)
    try:
        image.kernel(kernel)
    except Gone as gone:
        record_property("verdict", "gone from the mirror")
        pytest.skip(str(gone))
    started = time.monotonic()
    if chosen.series == WITHOUT_IMA:
        record_property("verdict", "refused: no IMA")
        with pytest.raises(Failed, match="this kernel has no IMA"):
            boot(manufacturer, tmp_path / "tpm", kernel, chosen.template)
        return
    with boot(manufacturer, tmp_path / "tpm", kernel, chosen.template) as machine:
        record_property("seconds", round(time.monotonic() - started, 1))
        capture(machine, tmp_path / "capture", made_by="tests/kernels/test_kernels.py")
    captured = Capture(folder=tmp_path / "capture")
    templates = captured.lists[LIST].templates
    record_property("templates", templates)
    assert templates.keys() == {chosen.template, "ima-buf"}
    refused = REFUSED.get(chosen.template, frozenset())
    padded = check_capture(captured, refused=refused)
    told = [*(f"refused: {one}" for one in refused), *(f"{bank} padded" for bank in padded)]
    told = told if refused else ["genuine", *told]
    early = captured.early()
    told += ["initramfs before policy"] if early else []
    record_property("verdict", "; ".join(told))
    assert bool(early) is (chosen.series >= MEASURES_INITRAMFS)
    if early:
        check_initramfs(early, image.kernel(kernel))


def check_initramfs(early: list[Measurement], kernel: Kernel) -> None:
    """What stands before the kernel policy is of the initramfs, file by file."""
    contents = {f"/{path}".encode(): data for path, data in initramfs.programs(kernel).items()}
    assert {one.path: one.digest for one in early} == {
        path: hashlib.sha256(data).digest() for path, data in contents.items()
    }
