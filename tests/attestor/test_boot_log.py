"""The boot's event log as the attestor sends it: whole, or not at all."""

from pathlib import Path

import pytest

from attestor.boot_log import read_boot_log
from evidence.event_log import MOST_LOG_BYTES


@pytest.mark.parametrize(
    ("size", "sent"),
    [(0, 0), (100, 100), (MOST_LOG_BYTES, MOST_LOG_BYTES), (MOST_LOG_BYTES + 1, 0)],
)
def test_a_log_that_the_verifier_would_not_take_is_not_sent(
    tmp_path: Path, size: int, sent: int
) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(size))
    assert len(read_boot_log(str(path))) == sent


def test_a_machine_without_a_log(tmp_path: Path) -> None:
    assert read_boot_log(str(tmp_path / "none")) == b""
