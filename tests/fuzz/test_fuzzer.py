"""`make fuzz` finds a flaw, keeps what shows it, and says so: the canary has one."""

from pathlib import Path

import pytest

from evidence import cbor
from tests.fuzz.__main__ import CLEAN, NOT_CLEAN, main
from tests.fuzz.canary import CANARY
from tests.fuzz.mutator import mutate_cbor

Out = pytest.CaptureFixture[str]


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--found", str(tmp_path / "found"), "--corpus", str(tmp_path / "corpus")]


@pytest.mark.timeout(300)
def test_it_finds_what_no_chance_would(places: list[str], tmp_path: Path, capsys: Out) -> None:
    """The flaw lies behind four bytes: one try in 2^32 by chance, seconds if coverage guides."""
    pytest.importorskip("atheris", reason="pip install '.[fuzz]'")
    assert main(["canary", "--seconds", "100", *places]) == NOT_CLEAN
    (found,) = (tmp_path / "found" / "canary").iterdir()
    with pytest.raises(KeyError):
        CANARY["canary"].attempt(found.read_bytes())
    told = capsys.readouterr().out
    assert "KeyError" in told
    assert f"found: {found}" in told
    assert "test_found.py" in told


@pytest.mark.timeout(300)
def test_it_keeps_a_corpus_and_says_when_nothing_was_found(
    places: list[str], tmp_path: Path, capsys: Out
) -> None:
    pytest.importorskip("atheris", reason="pip install '.[fuzz]'")
    assert main(["local", "--seconds", "1", *places]) == CLEAN
    assert any((tmp_path / "corpus" / "local").iterdir())
    assert not (tmp_path / "found" / "local").exists()
    assert capsys.readouterr().out.splitlines()[-1].endswith(" 0")


def test_unknown_targets_are_misuse(capsys: Out) -> None:
    with pytest.raises(SystemExit) as left:
        main(["no-such-target"])
    assert left.value.code == 2
    assert "ima-list" in capsys.readouterr().err


def test_members_are_changed_and_the_whole_stays_cbor() -> None:
    message = cbor.encode(["procseal body 1", 1, True, b"\1\2", cbor.encode([b"inner", [0]]), []])

    def mutate(data: bytes, most_bytes: int) -> bytes:
        return (data + b"x")[:most_bytes]

    changed = {mutate_cbor(message, 4096, seed, mutate) for seed in range(400)}
    decoded = [_decoded(one) for one in changed]
    assert len(changed) > 50
    assert sum(one is not None for one in decoded) > len(changed) * 0.8
    assert mutate_cbor(b"\xff", 4096, 1, mutate) == b"\xffx"


def _decoded(data: bytes) -> object:
    try:
        return cbor.decode(data)
    except Exception:  # noqa: BLE001
        return None
