"""Every message: one encoding, read back as it was; everything else is Malformed."""

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidence import Malformed, cbor
from evidence.modules import ModuleTree
from evidence.shapes import MOST_MEMBERS, Message
from tests import simulated_agent
from tests.evidence.shapes import MESSAGES, flips, shapes
from tests.simulated_node import SimulatedNode, make_challenge

few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def samples() -> list[Message]:
    """Return one message of each kind as a node or a verifier sends it."""
    node = SimulatedNode()
    challenge = make_challenge(node.name)
    process = node.new_process()
    signed = node.evidence(challenge, new=[process])
    return [
        node.enrol_message(),
        challenge,
        process.core,
        ModuleTree.decode(simulated_agent.tree_of(simulated_agent.golden())),
        node.body([process], [process]),
        node.unsigned_evidence(challenge),
        signed,
    ]


SAMPLES = samples()
ids = [type(one).__name__ for one in SAMPLES]


@pytest.mark.parametrize("kind", MESSAGES)
@few
@given(data=st.data())
def test_round_trip(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(shapes(kind))
    assert kind.decode(message.encode()) == message


@pytest.mark.parametrize("kind", MESSAGES)
@few
@given(data=st.data())
def test_every_truncation_is_malformed(kind: type[Message], data: st.DataObject) -> None:
    encoded = data.draw(shapes(kind)).encode()
    for size in range(len(encoded)):
        with pytest.raises(Malformed):
            kind.decode(encoded[:size])


@pytest.mark.parametrize("kind", MESSAGES)
@few
@given(data=st.data(), tail=st.binary(min_size=1, max_size=8))
def test_every_longer_message_is_malformed(
    kind: type[Message], data: st.DataObject, tail: bytes
) -> None:
    encoded = data.draw(shapes(kind)).encode()
    with pytest.raises(Malformed):
        kind.decode(encoded + tail)


@pytest.mark.parametrize("message", SAMPLES, ids=ids)
def test_every_flipped_bit_is_malformed_or_another_message(message: Message) -> None:
    for flipped in flips(message.encode()):
        try:
            read = type(message).decode(flipped)
        except Malformed:
            continue
        assert read != message
        assert read.encode() == flipped


@pytest.mark.parametrize("kind", MESSAGES)
@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=80))
def test_junk_is_malformed(kind: type[Message], junk: bytes) -> None:
    with pytest.raises(Malformed):
        kind.decode(junk)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=5)
    | st.binary(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=ids)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), value=plain)
def test_a_member_of_another_type_is_malformed(
    message: Message, data: st.DataObject, value: object
) -> None:
    members = [message.TYPE, *message.members()]
    place = data.draw(st.integers(0, len(members) - 1))
    bent = cbor.encode([*members[:place], value, *members[place + 1 :]])
    try:
        read = type(message).decode(bent)
    except Malformed:
        return
    assert read.encode() == bent
    assert type(value) in (type(members[place]), list)


@pytest.mark.parametrize("message", SAMPLES, ids=ids)
@pytest.mark.parametrize("bend", [
    pytest.param(lambda members: members[:-1], id="one less"),
    pytest.param(lambda members: [*members, None], id="one more"),
    pytest.param(lambda members: members[1:], id="no type"),
    pytest.param(lambda members: [members[0] + "x", *members[1:]], id="another version"),
    pytest.param(lambda _: [], id="empty"),
    pytest.param(lambda members: {"a": members}, id="a map"),
])  # fmt: skip
def test_another_shape_is_malformed(message: Message, bend: object) -> None:
    assert callable(bend)
    with pytest.raises(Malformed):
        type(message).decode(cbor.encode(bend([message.TYPE, *message.members()])))


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("8301", id="array of three that has one"),
        pytest.param("1801", id="number longer than it need be"),
        pytest.param("190001", id="the same, two bytes"),
        pytest.param("9f01ff", id="indefinite array"),
        pytest.param("5f4101ff", id="indefinite bytes"),
        pytest.param("0101", id="something after the end"),
        pytest.param("a2016161016162", id="a key twice"),
        pytest.param("a26161016061", id="keys in another order, cut"),
        pytest.param("d81c81d81d00", id="an array that contains itself"),
        pytest.param("c074323031332d30332d32315432303a30343a30305a00", id="a date"),
        pytest.param("fb3ff8000000000000", id="number with a fraction longer than it need be"),
        pytest.param("f818", id="reserved simple value"),
        pytest.param("", id="nothing"),
        pytest.param("9a80000000", id="array of 2^31"),
        pytest.param("5b7fffffffffffffff", id="bytes of 2^63"),
        pytest.param("81" * 5000 + "00", id="five thousand arrays deep"),
    ],
)
def test_cbor_that_is_not_the_one_encoding(encoded: str) -> None:
    with pytest.raises(Malformed):
        cbor.decode(bytes.fromhex(encoded))


@given(plain)
def test_cbor_round_trip(value: object) -> None:
    encoded = cbor.encode(value)
    assert cbor.encode(cbor.decode(encoded)) == encoded


def test_a_number_below_zero_and_a_truth_value_for_a_number_are_malformed() -> None:
    message = next(one for one in SAMPLES if type(one).__name__ == "Challenge")
    members = message.members()
    for wrong in (-1, True, 1.0, "1", None):
        bent = [message.TYPE, *members[:4], wrong, *members[5:]]
        with pytest.raises(Malformed):
            type(message).decode(cbor.encode(bent))


def test_arrays_are_bounded() -> None:
    body = next(one for one in SAMPLES if type(one).__name__ == "Body")
    members = body.members()
    bent = [body.TYPE, *members[:2], [b""] * (MOST_MEMBERS + 1), *members[3:]]
    with pytest.raises(Malformed):
        type(body).decode(cbor2.dumps(bent, canonical=True))
