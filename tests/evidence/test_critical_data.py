"""Critical data as genuine kernels wrote it, and everything that is nearly it."""

import hashlib
import os
from dataclasses import replace
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import Malformed
from evidence.critical_data import SelinuxState, VerityTable
from evidence.ima import MOST_DATA_BYTES
from tests.critical_data import (
    DEVICE,
    RESUMED_61,
    RESUMED_612,
    ROOT_DIGEST,
    STATE_61,
    STATE_612,
    TABLE_61,
    TABLE_612,
)
from tests.evidence.shapes import flips

names = st.from_regex(r"[A-Za-z0-9_.:+-]{1,40}", fullmatch=True)
versions = st.from_regex(r"(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}", fullmatch=True)
devices = st.from_regex(r"[1-9][0-9]{0,3}:[0-9]{1,4}", fullmatch=True)
modes = st.sampled_from(["", "ignore_corruption", "restart_on_corruption", "panic_on_corruption"])
tables = st.builds(
    VerityTable,
    version=versions,
    name=names,
    uuid=st.one_of(st.just(""), names),
    major=st.integers(0, 4095),
    minor=st.integers(0, (1 << 20) - 1),
    sectors=st.integers(0, 1 << 60),
    target_version=versions,
    verity_version=st.integers(0, 1),
    data_device=devices,
    hash_device=devices,
    algorithm=st.sampled_from(["sha1", "sha256", "sha512", "sha3-256"]),
    root_digest=st.from_regex(r"[0-9a-f]{40,128}", fullmatch=True),
    salt=st.one_of(st.just("-"), st.from_regex(r"[0-9a-f]{2,64}", fullmatch=True)),
    ignores_zero_blocks=st.booleans(),
    checks_once=st.booleans(),
    key=st.one_of(st.just(""), names),
    mode=modes,
    error_mode=modes,
)
settings = st.lists(
    st.tuples(st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True), st.booleans()),
    max_size=12,
    unique_by=lambda one: one[0],
).filter(lambda some: not {"initialized", "enforcing"} & {name for name, _ in some})
states = st.builds(
    lambda is_loaded, is_enforcing, others: SelinuxState(
        settings=(("initialized", is_loaded), ("enforcing", is_enforcing), *others)
    ),
    st.booleans(),
    st.booleans(),
    settings,
)


@pytest.mark.parametrize(("loaded", "resumed"), [(TABLE_61, RESUMED_61), (TABLE_612, RESUMED_612)])
def test_a_genuine_table(loaded: str, resumed: str) -> None:
    table = VerityTable.decode(loaded.encode())
    assert table.encode() == loaded.encode()
    assert table.resumed() == resumed.encode()
    assert table.root_digest == ROOT_DIGEST
    assert (table.device, table.sectors) == (DEVICE, 806912)


@pytest.mark.parametrize("text", [STATE_61, STATE_612])
def test_a_genuine_state(text: str) -> None:
    state = SelinuxState.decode(text.encode())
    assert state.is_enforcing
    assert dict(state.settings)["open_perms"] is False


@given(tables)
def test_a_table_there_and_back(table: VerityTable) -> None:
    assert VerityTable.decode(table.encode()) == table
    assert table.device == os.makedev(table.major, table.minor)
    digest = hashlib.sha256(table.encode()).hexdigest()
    assert f"active_table_hash=sha256:{digest};" in table.resumed().decode()


@given(states)
def test_a_state_there_and_back(state: SelinuxState) -> None:
    assert SelinuxState.decode(state.encode()) == state


@pytest.mark.parametrize("format_", [VerityTable, SelinuxState])
@pytest.mark.parametrize("more", [b"a", b"9", b"a=1;", b"=", b";"])
def test_long_data_take_no_longer_than_their_length(
    format_: type[VerityTable] | type[SelinuxState], more: bytes
) -> None:
    """A record may hold as much: where each letter were a new beginning, this would take hours."""
    genuine = (TABLE_612 if format_ is VerityTable else STATE_612).encode()
    start = process_time()
    with pytest.raises(Malformed):
        format_.decode(genuine + more * (MOST_DATA_BYTES // len(more)))
    assert process_time() - start < 5


@given(tables)
def test_every_truncation_of_a_table(table: VerityTable) -> None:
    whole = table.encode()
    for size in range(len(whole)):
        with pytest.raises(Malformed):
            VerityTable.decode(whole[:size])
    for more in (b";", b"\n", b"\0", whole):
        with pytest.raises(Malformed):
            VerityTable.decode(whole + more)


@given(states)
def test_every_truncation_of_a_state(state: SelinuxState) -> None:
    """What is left may be another state, with fewer settings."""
    whole = state.encode()
    for size in range(len(whole)):
        try:
            assert SelinuxState.decode(whole[:size]) != state
        except Malformed:
            continue


@pytest.mark.parametrize("format_", [VerityTable, SelinuxState])
def test_every_flipped_bit_is_malformed_or_something_else(
    format_: type[VerityTable] | type[SelinuxState],
) -> None:
    genuine = (TABLE_612 if format_ is VerityTable else STATE_612).encode()
    for flipped in flips(genuine):
        try:
            assert format_.decode(flipped).encode() == flipped
        except Malformed:
            continue


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("target_name=verity", "target_name=linear", id="another target"),
        pytest.param("num_targets=1", "num_targets=2", id="two targets"),
        pytest.param("target_begin=0", "target_begin=8", id="not from the beginning"),
        pytest.param("target_index=0", "target_index=1", id="not the first target"),
        pytest.param("hash_failed=V", "hash_failed=C", id="corrupted already"),
        pytest.param("minor=0,", "minor=00,", id="a number of two spellings"),
        pytest.param("major=253", "major=+253", id="a sign"),
        pytest.param("major=253", "major=" + "9" * 5000, id="a major number without end"),
        pytest.param("minor=0,", "minor=" + "9" * 5000 + ",", id="a minor number without end"),
        pytest.param("len=806912", "len=" + "9" * 5000, id="a length without end"),
        pytest.param("verity_version=1", "verity_version=" + "9" * 5000, id="no version"),
        pytest.param("name=root", "name=ro\\,ot", id="a name with an escape"),
        pytest.param("name=root", "name=root,uuid=x;major=1", id="a name that goes on"),
        pytest.param("salt=-", "salt=", id="no salt"),
        pytest.param("check_at_most_once=n", "check_at_most_once=x", id="neither yes nor no"),
        pytest.param(",salt=-", "", id="a field left out"),
        pytest.param("check_at_most_once=n;", "check_at_most_once=n,more=1;", id="a field more"),
        pytest.param("verity", "vérity", id="not ASCII"),
    ],
)
def test_nearly_a_table(old: str, new: str) -> None:
    assert old in TABLE_612
    with pytest.raises(Malformed):
        VerityTable.decode(TABLE_612.replace(old, new).encode())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("initialized=1;", id="one setting"),
        pytest.param("enforcing=1;initialized=1;", id="another order"),
        pytest.param("initialized=1;enforcing=1", id="no end"),
        pytest.param("initialized=1;enforcing=2;", id="another value"),
        pytest.param("initialized=1;enforcing=1;enforcing=0;", id="a setting twice"),
        pytest.param(" initialized=1;enforcing=1;", id="a space"),
    ],
)
def test_nearly_a_state(text: str) -> None:
    with pytest.raises(Malformed):
        SelinuxState.decode(text.encode())


@pytest.mark.parametrize(("is_loaded", "is_enforcing"), [(True, False), (False, True)])
def test_a_state_in_which_nothing_is_enforced(*, is_loaded: bool, is_enforcing: bool) -> None:
    genuine = SelinuxState.decode(STATE_612.encode())
    settings = (("initialized", is_loaded), ("enforcing", is_enforcing), *genuine.settings[2:])
    assert not replace(genuine, settings=settings).is_enforcing
