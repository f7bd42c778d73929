"""The instance key and its register, on a software TPM."""

import hashlib
from pathlib import Path

import pytest

from attestor import instance
from attestor.failed import NotFirst
from attestor.state import STATE_FILE, State
from attestor.tpm import Tpm
from credential import crypto
from evidence.messages import ChallengeRequest

pytestmark = pytest.mark.swtpm

BOOT = "41c0d9a2-0000-4000-8000-000000000001"


def start(tpm: Tpm, directory: Path, *, second: bool = False) -> instance.Instance:
    return instance.start(
        tpm, directory=directory, boot=BOOT, key=crypto.generate(), is_second_start=second
    )


def test_the_first_start(tpm: Tpm, tmp_path: Path) -> None:
    own = start(tpm, tmp_path)
    assert own.history == (hashlib.sha256(own.public).digest(),)
    assert tpm.read_registers()[15] == hashlib.sha256(bytes(32) + own.digest).digest()
    signed = own.sign(ChallengeRequest(node="build-7", places=()))
    assert crypto.is_signed(signed.key, signed.payload, signed.signature)
    assert "key=" not in repr(own)


@pytest.mark.attack(number=122, attacker="whoever starts a second attestor", asset="the node")
def test_a_second_start_is_asked_for_by_name(tpm: Tpm, tmp_path: Path) -> None:
    first = start(tpm, tmp_path)
    with pytest.raises(NotFirst, match="--second-start"):
        start(tpm, tmp_path)
    second = start(tpm, tmp_path, second=True)
    assert second.history == (first.digest, second.digest)
    assert tpm.read_registers()[15] == instance.fold(second.history)


def test_a_start_that_was_cut_short_before_the_register(tpm: Tpm, tmp_path: Path) -> None:
    """The state knows one digest more than the register."""
    State(boot=BOOT, instances=("aa" * 32,)).save(tmp_path)
    own = start(tpm, tmp_path)
    assert own.history == (own.digest,)


@pytest.mark.attack(number=122, attacker="whoever can open the TPM", asset="the node")
@pytest.mark.parametrize("is_second", [False, True])
def test_what_is_not_on_record(tpm: Tpm, tmp_path: Path, is_second: bool) -> None:  # noqa: FBT001
    tpm.extend(15, b"x" * 32)
    with pytest.raises(NotFirst, match="not on record"):
        start(tpm, tmp_path, second=is_second)


def test_the_state_of_another_boot_counts_for_nothing(tpm: Tpm, tmp_path: Path) -> None:
    State(boot="another", instances=("aa" * 32,)).save(tmp_path)
    assert len(start(tpm, tmp_path).history) == 1


def test_a_state_that_is_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"instances": []', '{"instances": [], "more": 1}'):
        (tmp_path / STATE_FILE).write_text(text)
        with pytest.raises((ValueError, TypeError)):
            State.load(tmp_path)
