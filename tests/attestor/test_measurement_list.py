"""Reading the list from a record on, as it grows."""

from pathlib import Path

import pytest

from attestor.measurement_list import ListUnreadable, MeasurementList
from evidence import Malformed
from tests.simulated_keys import sha256
from tests.simulated_node import make_record

RECORDS = [make_record(f"/file/{n}" * (n + 1), sha256(b"%d" % n)).encode() for n in range(12)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_bytes(b"".join(RECORDS[:8]))
    return path


def test_any_part_in_any_order(path: Path) -> None:
    one = MeasurementList(str(path))
    for first in (0, 3, 8, 5, 7, 7, 0, 8):
        assert one.records_from(first) == b"".join(RECORDS[first:8])


def test_it_grows(path: Path) -> None:
    one = MeasurementList(str(path))
    assert one.records_from(8) == b""
    for count in range(8, 12):
        with path.open("ab") as file:
            file.write(RECORDS[count])
        assert one.records_from(count) == RECORDS[count]


def test_a_record_that_there_is_not(path: Path) -> None:
    one = MeasurementList(str(path))
    with pytest.raises(ListUnreadable):
        one.records_from(9)
    assert one.records_from(8) == b""


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(ListUnreadable):
        MeasurementList(str(tmp_path / "nothing")).records_from(0)


def test_half_a_record(path: Path) -> None:
    with path.open("ab") as file:
        file.write(RECORDS[8][:-1])
    with pytest.raises(Malformed):
        MeasurementList(str(path)).records_from(0)
