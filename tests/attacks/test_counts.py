"""Numbers in bytes that nobody has signed, taken for lengths and for the ends of loops."""

import time
import tracemalloc
from collections.abc import Callable

import pytest

from evidence import Malformed, cbor, der, tpm
from evidence.certificate import Certificate
from evidence.event_log import SEPARATOR, Event, EventLog, SpecId, Variable
from evidence.messages import Body, Enrol, Evidence, SignedMessage
from evidence.shapes import Message
from tests.fuzz.targets import TARGETS
from tests.simulated_node import SimulatedNode, make_record
from verifier.bounds import demand_envelope, demand_payload
from verifier.check_log import check_log

ROOT = "root on the node"
STRANGER = "a stranger on the network"
SERVICE = "the verifier's service"

MOST_PEAK_BYTES = 8 << 20
MOST_SECONDS = 2
"""Of CPU, on a busy machine: what a count asked for would take hours."""

LARGE = {
    "2^32 - 1": b"\xff" * 4,
    "2^31, little endian": (1 << 31).to_bytes(4, "little"),
    "10^9, big endian": (10**9).to_bytes(4, "big"),
    "2^64 - 1": b"\xff" * 8,
}
PLACES = 40
"""Where in an input a number is put, evenly over it."""
FORMATS = (
    "ima-list", "ima-list-text", "event-log", "boot", "tpm", "cbor", "message", "case",
    "certificate", "file-signature", "check-quote", "grant", "local",
)  # fmt: skip


class Meter:
    """Memory and CPU time from here on."""

    def __init__(self) -> None:
        tracemalloc.start()
        self.started = time.process_time()

    def stop(self) -> None:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MOST_PEAK_BYTES
        assert time.process_time() - self.started < MOST_SECONDS


@pytest.mark.attack(number=100, attacker=ROOT, asset=SERVICE)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", FORMATS)
def test_100_a_large_number_anywhere_in_what_is_good(name: str) -> None:
    """Wherever a format has its counts: each place of a good input is one once."""
    target = TARGETS[name]
    seeds = [seed for seed in target.seeds() if len(seed) < 4096 and target.attempt(seed)]
    seed = max(seeds, key=len)
    step = max(1, len(seed) // PLACES)
    tracemalloc.start()
    for large in LARGE.values():
        for at in range(0, len(seed), step):
            tracemalloc.reset_peak()
            started = time.process_time()
            target.attempt(seed[:at] + large + seed[at + len(large) :])
            assert time.process_time() - started < MOST_SECONDS, (name, at)
            assert tracemalloc.get_traced_memory()[1] < MOST_PEAK_BYTES, (name, at)
    tracemalloc.stop()


def _log() -> tuple[bytes, int]:
    """Return a log of one event, and where the event begins."""
    spec = SpecId(
        register=0, digest=bytes(20), platform_class=0, minor=0, major=2, errata=0,
        pointer_size=2, algorithms=((0xB, 32),), vendor=b"",
    )  # fmt: skip
    event = Event(register=0, type=SEPARATOR, digests=((0xB, bytes(32)),), data=bytes(4))
    head = EventLog(spec=spec, events=()).encode()
    return EventLog(spec=spec, events=(event,)).encode(), len(head)


def _instead(data: bytes, at: int, number: bytes) -> bytes:
    return data[:at] + number + data[at + len(number) :]


LOG, EVENT = _log()
VARIABLE = Variable(vendor=bytes(16), name="db", value=b"x").encode()
SELECTIONS = tpm.encode_selections((tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=(0,)),))


@pytest.mark.attack(number=100, attacker=ROOT, asset=SERVICE)
@pytest.mark.parametrize(
    ("read", "data"),
    [
        pytest.param(EventLog.decode, _instead(LOG, EVENT + 8, b"\xff" * 4), id="digests"),
        pytest.param(EventLog.decode, _instead(LOG, len(LOG) - 8, b"\xff" * 4), id="event data"),
        pytest.param(EventLog.decode, _instead(LOG, 28, b"\xff\xff\xff\x7f"), id="first event"),
        pytest.param(EventLog.decode, _instead(LOG, 56, b"\xff" * 4), id="algorithms"),
        pytest.param(Variable.decode, _instead(VARIABLE, 16, b"\xff" * 8), id="a variable's name"),
        pytest.param(Variable.decode, _instead(VARIABLE, 24, b"\xff" * 8), id="its value"),
        pytest.param(tpm.CreationData.decode, b"\xff" * 4 + SELECTIONS[4:], id="PCR selections"),
        pytest.param(Certificate.decode, b"\x30\x84\xff\xff\xff\xff", id="a certificate"),
        pytest.param(Certificate.decode, b"\x30\x83\xff\xff\xff" + bytes(40), id="16 MiB of it"),
        pytest.param(
            Certificate.decode,
            der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, b"\x06\x00" * 4000)),
            id="elements",
        ),
    ],
)
def test_100_a_count_that_is_no_count(read: Callable[[bytes], object], data: bytes) -> None:
    meter = Meter()
    with pytest.raises(Malformed):
        read(data)
    meter.stop()


@pytest.mark.attack(number=100, attacker=STRANGER, asset=SERVICE)
@pytest.mark.parametrize(
    "head", [b"\x9a\x3b\x9a\xca\x00", b"\x9b" + b"\xff" * 8, b"\x5b" + b"\xff" * 8]
)
@pytest.mark.parametrize("kind", [SignedMessage, Enrol, Evidence, Body])
def test_100_a_message_of_a_billion_members(head: bytes, kind: type[Message]) -> None:
    """Of 10^9, and of 2^64: arrays, and byte strings, with nothing behind them."""
    meter = Meter()
    for data in (head, b"\x82" + cbor.encode(kind.TYPE) + head):
        for read in (demand_envelope, demand_payload, kind.decode):
            with pytest.raises(Malformed):
                read(data)
    meter.stop()


@pytest.mark.attack(number=38, attacker=ROOT, asset=SERVICE)
@pytest.mark.timeout(300)
def test_038_memory_grows_with_the_list_and_no_faster() -> None:
    """Of evidence some 1 kB for each record is held while it is judged; of a file nothing."""
    count = 10_000
    node = SimulatedNode()
    records = [make_record(f"/usr/lib/lib{one}.so", bytes([1]) * 32) for one in range(count)]
    data = b"".join(record.encode() for record in records)
    tracemalloc.start()
    assert check_log(data).entries == count
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    assert TARGETS["appraise-list"].attempt(b"".join(one.encode() for one in node.records))
    TARGETS["appraise-list"].attempt(b"".join(one.encode() for one in (*node.records, *records)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 2000 * count
