"""The whole product on real parts: `make demo`, on both kernels."""

import json

import pytest

from demo.__main__ import RESULT, main
from demo.scenes import SCENES

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(1500)]


@pytest.mark.parametrize("kernel", ["6.12", "6.1"])
def test_every_scene_ends_as_expected(kernel: str) -> None:
    """6.1 has neither SO_PEERPIDFD nor pidfs: peers are proven by pid and a living pidfd."""
    RESULT.unlink(missing_ok=True)
    assert main(["--kernel", kernel]) == 0
    played = json.loads(RESULT.read_text())
    assert [one["scene"] for one in played] == [scene.name for scene in SCENES]
    assert all(one["expected"] == one["got"] for one in played)
    assert all(one["reasons"] for one in played if one["got"] != "granted")
