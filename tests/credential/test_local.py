"""The local socket's messages: one text for each, and strict bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Finding, Malformed, local
from credential.local import (
    MESSAGES,
    Credential,
    Ended,
    Job,
    Launch,
    Launched,
    Message,
    Nonce,
    Obtain,
    Opened,
    Proof,
    Prove,
    Refusal,
    Restart,
    State,
    Status,
    Token,
)
from tests.credential.world import AUDIENCE, ID, TOKEN, URL, flips, make_proof, reasons, truncations

NONCE = "0f" * 32
SAMPLES: list[Message] = [
    Nonce(nonce=NONCE),
    Obtain(nonce=NONCE),
    Obtain(nonce=NONCE, id=ID),
    Obtain(nonce=NONCE, audience=AUDIENCE, scope=("post", "get"), context=("session=a b", "t=1")),
    Obtain(nonce=NONCE, proof_key="tpm"),
    Obtain(nonce=NONCE, id=ID, proof_key="process", use_key="A" * 87, signature="B" * 86),
    Credential(token=TOKEN, expires=1795521600, id=ID, level="L2"),
    Prove(audience=AUDIENCE, method="POST", url=URL),
    Prove(audience=AUDIENCE, method="POST", url=URL, kind="dpop"),
    Prove(audience=AUDIENCE, method="POST", url=URL, kind="dpop", nonce="A-b_9"),
    Proof(token=TOKEN, proof=make_proof()),
    Token(),
    Launch(
        argument=("/bin/a", "", "b: c"),
        environment=("A=", "B=é"),
        user="payments",
        file=("/etc/a.toml", "/etc/b c"),
        job="build-17",
    ),
    Launch(argument=("/bin/a",), environment=()),
    Job(name="build-17"),
    Opened(name="a.b_c:d/e@f"),
    Launched(pid=812),
    Ended(status=-9),
    Status(),
    Restart(),
    State(json='{"node": "build-7"}'),
    Refusal(findings=(Finding(reason="process.executable-unknown", what="/a b", found="x: y"),)),
    Refusal(findings=(Finding(reason="node.unknown"),) * 16),
]
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=200)
messages = st.one_of(
    st.builds(Nonce, nonce=st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
    st.builds(
        Prove,
        audience=st.from_regex(r"[!-~]{1,100}", fullmatch=True),
        method=st.sampled_from(["GET", "post", "M-SEARCH"]),
        url=st.from_regex(r"[!-~]{1,100}", fullmatch=True),
        kind=st.sampled_from(["", "dpop"]),
        nonce=st.just("") | st.from_regex(r"[!#-\[\]-~]{1,256}", fullmatch=True),
    ),
    st.builds(
        Launch,
        argument=st.lists(texts, min_size=1, max_size=20).map(tuple),
        environment=st.lists(texts.map("A={}".format), max_size=20).map(tuple),
        user=st.just("") | st.just("payments"),
        file=st.lists(st.sampled_from(["/a", "/a/b c", "/a/..b"]), max_size=16).map(tuple),
        job=st.just("") | st.from_regex(r"[A-Za-z0-9_.:/@-]{1,255}", fullmatch=True),
    ),
    st.builds(Ended, status=st.integers(-64, 255)),
    st.builds(
        Refusal,
        findings=st.lists(
            st.builds(
                Finding, reason=st.just("node.unknown"), what=texts, expected=texts, found=texts
            ),
            min_size=1,
            max_size=16,
        ).map(tuple),
    ),
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda one: type(one).__name__)
def test_samples_come_out_as_they_went_in(message: Message) -> None:
    assert local.decode(message.encode()) == message
    assert type(message).decode(message.encode()) == message


def test_there_is_a_sample_of_every_message() -> None:
    assert {type(message) for message in SAMPLES} == set(MESSAGES.values())


@given(messages)
def test_what_goes_in_comes_out(message: Message) -> None:
    assert local.decode(message.encode()) == message


@pytest.mark.parametrize("message", SAMPLES, ids=lambda one: type(one).__name__)
def test_every_truncation_is_malformed_or_another_whole_message(message: Message) -> None:
    """A message that may end after a line is another message there; a packet is never cut."""
    for data in truncations(message.encode()):
        try:
            found = local.decode(data)
        except Malformed:
            continue
        assert found != message
        assert found.encode() == data


@pytest.mark.parametrize("message", SAMPLES, ids=lambda one: type(one).__name__)
def test_every_flipped_bit_is_malformed_or_another_message(message: Message) -> None:
    for data in flips(message.encode()):
        try:
            found = local.decode(data)
        except Malformed:
            continue
        assert found != message
        assert found.encode() == data


@given(st.binary() | st.text().map(lambda text: f"procseal/1 obtain\n{text}".encode()))
def test_no_packet_is_an_unhandled_error(data: bytes) -> None:
    with pytest.raises(Malformed):
        local.decode(data)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("procseal/1 token", id="no line end"),
        pytest.param("procseal/1 token\n\n", id="an empty line"),
        pytest.param("procseal/1 token\r\n", id="a carriage return"),
        pytest.param("procseal/2 token\n", id="another version"),
        pytest.param("procseal/1 Token\n", id="a verb in capitals"),
        pytest.param("procseal/1 sign\n", id="an unknown verb"),
        pytest.param(" procseal/1 token\n", id="a space before"),
        pytest.param("procseal/1 token\nid: a\n", id="an unknown name"),
        pytest.param(f"procseal/1 nonce\nnonce: {NONCE}\nnonce: {NONCE}\n", id="a name twice"),
        pytest.param(f"procseal/1 nonce\nnonce:{NONCE}\n", id="no space"),
        pytest.param(f"procseal/1 nonce\nnonce: {NONCE} \n", id="a space behind"),
        pytest.param(f"procseal/1 nonce\nnonce: {NONCE.upper()}\n", id="a nonce in capitals"),
        pytest.param(f"procseal/1 obtain\nid: {ID}\nnonce: {NONCE}\n", id="another order"),
        pytest.param(f"procseal/1 obtain\nnonce: {NONCE}\nid: \n", id="an empty id"),
        pytest.param("procseal/1 launched\npid: 007\n", id="leading zeros"),
        pytest.param("procseal/1 launched\npid: +7\n", id="a plus"),
        pytest.param("procseal/1 launched\npid: \u0667\n", id="a digit of another script"),
        pytest.param("procseal/1 ended\nstatus: -0\n", id="minus nothing"),
        pytest.param("procseal/1 launch\n", id="no argument"),
        pytest.param("procseal/1 launch\nargument: a\nenvironment: A\n", id="no ="),
        pytest.param("procseal/1 launch\nargument: a\x1b[0m\n", id="an escape sequence"),
        pytest.param("procseal/1 launch\nargument: a\0b\n", id="a NUL"),
        pytest.param("procseal/1 refused\n", id="no finding"),
        pytest.param("procseal/1 refused\nreason: a.b\nwhat: \n", id="half a finding"),
        pytest.param("procseal/1 refused\nreason: No\nwhat: \nexpected: \nfound: \n", id="no code"),
        pytest.param(
            "procseal/1 refused\n" + "reason: a.b\nwhat: \nexpected: \nfound: \n" * 17,
            id="too many findings",
        ),
        pytest.param("procseal/1 launch\n" + "argument: a\n" * 1025, id="too many arguments"),
        pytest.param("procseal/1 launch\n" + f"argument: {'a' * 9000}\n" * 8, id="too long"),
    ],
)
def test_what_is_no_message(text: str) -> None:
    with pytest.raises(Malformed) as refusal:
        local.decode(text.encode())
    assert reasons(refusal.value) == ["local.malformed"]


@pytest.mark.parametrize(
    "message",
    [
        Nonce(nonce="x"),
        Prove(audience="a\nmethod: GET", method="POST", url=URL),
        Prove(audience=AUDIENCE, method="POST", url=URL, kind="wpt"),
        Prove(audience=AUDIENCE, method="POST", url=URL, kind="dpop", nonce='a"b'),
        Prove(audience=AUDIENCE, method="POST", url=URL, kind="dpop", nonce="a" * 257),
        Launch(argument=("a\nuser: root",), environment=()),
        Launch(argument=("\ud800",), environment=()),
        Launch(argument=("a" * 16000,) * 5, environment=()),
        *(
            Launch(argument=("/a",), environment=(), file=(path,))
            for path in ("", "/", "a", "/a/", "//a", "/a//b", "/a/../b", "/..", "/a/.", "/a\nb")
        ),
        Launch(argument=("/a",), environment=(), file=("/a",) * 17),
        Refusal(findings=()),
    ],
    ids=repr,
)
def test_what_could_not_be_read_is_not_sent(message: Message) -> None:
    with pytest.raises(Malformed):
        message.encode()


@given(st.lists(st.text(), min_size=3, max_size=3), st.integers(1, 40))
def test_a_refusal_can_be_sent_whatever_its_details_are(details: list[str], count: int) -> None:
    what, expected, found = details
    finding = Finding(reason="ima-list.entry-unknown", what=what, expected=expected, found=found)
    data = Refusal.of((finding,) * count).encode()
    assert len(local.decode(data).findings) == min(count, 16)  # type: ignore[attr-defined]
    assert data.isascii()


def test_the_longest_refusal_fits_in_a_message() -> None:
    long = "é" * 100_000
    finding = Finding(reason=f"a{'.b' * 3}", what=long, expected=long, found=long)
    assert len(Refusal.of((finding,) * 99).encode()) <= local.MOST_BYTES
