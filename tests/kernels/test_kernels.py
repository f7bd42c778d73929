"""Kernels in the lab, each judged by our own code: list, quote, registers, first records.

Without arguments, the host release's kernel with the templates that matter, and the kernel that
the lab takes by default. `make kernels` gives `--kernel all`: every kernel on the package mirror,
and the newest of each series with every template. Kernels of suites that are not released may
fail; they are named. The table at the end is `conftest.py`'s.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidence.ima import EVIDENCE_TEMPLATES
from swtpm import Failed, Manufacturer, VirtualMachine
from swtpm.capture import capture
from swtpm.kernels import NAMES, Kernel, ima_template
from swtpm.manufacturer import HASHES
from swtpm.programs import BUILD
from tests.captures import Capture, check_capture
from tests.kernels.choice import DEFAULT_TEMPLATE, Chosen
from verifier.reasons import Reason, Rejected

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

WITHOUT_IMA = (5, 10)
"""Debian 11's cloud kernels are built without it."""

REFUSED = {
    "ima": {Reason.LIST_LEGACY},
    "ima-buf": {Reason.LIST_BUFFER},
}
"""Why evidence with this template is refused; of others that nodes may not send, because of it."""

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
    templates = dict(captured.lists())["binary_runtime_measurements"].templates
    record_property("templates", templates)
    assert templates.keys() == {chosen.template, "ima-buf"}
    told = "".join(f"; {bank} padded" for bank in check_capture(captured))
    if chosen.template in REFUSED or chosen.template not in EVIDENCE_TEMPLATES:
        reasons = REFUSED.get(chosen.template, {Reason.LIST_TEMPLATE})
        record_property("verdict", f"sound, no evidence: {', '.join(sorted(reasons))}{told}")
        with pytest.raises(Rejected) as rejection:
            captured.judge()
        assert {finding.reason for finding in rejection.value.findings} == reasons
        return
    judged = captured.judge()
    first = judged.replayed.measured[: judged.policy_index + 1]
    assert [one.path for one in first] == [
        b"boot_aggregate", b"kernel_version", b"/sysroot/etc/ima/ima-policy",
    ]  # fmt: skip
    record_property("verdict", f"accepted{told}")
