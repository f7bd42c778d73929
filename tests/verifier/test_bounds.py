"""How many items a message may have: all that honest nodes send, and little more."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from evidence import Malformed, cbor
from evidence.messages import Gone, GoneProcess
from evidence.process import MOST_CONFIGURATION
from tests.simulated_node import SimulatedNode, make_challenge
from tests.simulated_process import CONFIGURATION, text_of
from verifier.bounds import (
    DEEPEST,
    FEWEST_ITEMS,
    MOST_CORE_ITEMS,
    MOST_ENVELOPE_ITEMS,
    PAYLOAD_ITEM_BYTES,
    demand_body,
    demand_bounded,
    demand_core,
    demand_envelope,
    demand_payload,
)

Demand = Callable[[bytes], None]


@pytest.fixture(scope="module")
def node() -> SimulatedNode:
    return SimulatedNode("n")


def test_what_honest_nodes_send_is_within_bounds(node: SimulatedNode) -> None:
    process = node.new_process()
    demand_envelope(node.enrol_message().encode())
    demand_core(process.core.encode())
    files = tuple(replace(CONFIGURATION, path=f"/{number}") for number in range(MOST_CONFIGURATION))
    launched = {"binding": "launched", "peer_proof": "child", "configuration": files}
    demand_core(node.new_process(core=launched).core.encode())
    challenge = make_challenge("n")
    for message in (node.evidence(challenge, [process]), node.wanted(process)):
        demand_envelope(message.encode())
        demand_payload(message.payload)


def test_the_longest_arrays_of_the_shortest_members_are_within_bounds(node: SimulatedNode) -> None:
    name = node.new_process().key_name
    withdrawn = node.unsigned_evidence(make_challenge("n"), withdrawn=(name,) * (1 << 16))
    demand_payload(withdrawn.encode())
    gone = Gone(node="n", processes=(GoneProcess(key_name=name, cause="process.exited"),) * 20_000)
    demand_payload(gone.encode())
    mapping = text_of(0, start=0x400000, offset=0, length=0x1000)
    process = node.new_process(look={"mappings": (mapping,) * 2048})
    demand_body(node.body([process] * 8, [process] * 8).encode())


@pytest.mark.parametrize(
    ("demand", "most"),
    [
        (demand_envelope, MOST_ENVELOPE_ITEMS),
        (demand_core, MOST_CORE_ITEMS),
        (demand_payload, FEWEST_ITEMS),
    ],
)
def test_one_item_too_many(demand: Demand, most: int) -> None:
    """Bytes that a message has make room for items, in what is signed, and nowhere else."""
    if demand is demand_payload:
        most += 100
    padding = bytes(100 * PAYLOAD_ITEM_BYTES - most)
    demand(cbor.encode([padding, *[0] * (most - 2)]))
    with pytest.raises(Malformed, match="items"):
        demand(cbor.encode([padding, *[0] * (most - 1)]))


def test_a_message_of_nothing_but_items_is_refused_early() -> None:
    """A decoder would make an object of each of four million bytes."""
    for demand in (demand_envelope, demand_payload, demand_body):
        with pytest.raises(Malformed, match="items"):
            demand(cbor.encode([0] * (4 << 20)))


def test_depth() -> None:
    demand_bounded(b"\x81" * (DEEPEST - 1) + b"\0")
    with pytest.raises(Malformed, match="deep"):
        demand_bounded(b"\x81" * (DEEPEST + 1) + b"\0")


@pytest.mark.parametrize("data", [b"\xa0", b"\x81\xa1\0\0", b"\xc1\0", b"\x81\xd8\x1c\x80"])
def test_maps_and_tags_are_in_no_message(data: bytes) -> None:
    with pytest.raises(Malformed, match="tags"):
        demand_bounded(data)


@pytest.mark.parametrize("data", [b"", b"\x82\0", b"\x19\1", b"\x9b" + b"\xff" * 8, b"\x42a"])
def test_what_is_cut_short(data: bytes) -> None:
    with pytest.raises(Malformed, match="bytes"):
        demand_bounded(data)


@pytest.mark.parametrize("data", [b"\x9f\xff", b"\x5f\xff", b"\x1c", b"\xff"])
def test_indefinite_lengths(data: bytes) -> None:
    with pytest.raises(Malformed, match="definite"):
        demand_bounded(data)
