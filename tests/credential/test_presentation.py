"""Token and proof in the headers of a request: what is written is read, and nothing else."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import DPoP, Malformed, Refused, presentation
from credential.presentation import KINDS, Kind
from tests.credential.world import NONCES, NOW, TOKEN, USE_KEY, make_dpop, make_proof, reasons

WIT, WPT, AUTHORIZATION, DPOP = (
    "Workload-Identity-Token", "Workload-Proof-Token", "Authorization", "DPoP",
)  # fmt: skip
Headers = Sequence[tuple[str, str]]


def read(headers: Headers) -> presentation.Presented:
    def values_of(name: str) -> list[str]:
        return [value for one, value in headers if one.lower() == name.lower()]

    return presentation.presented(values_of, nonces=NONCES)


def proof_of(found: presentation.Presented) -> str:
    return found.proof.proof if isinstance(found.proof, DPoP) else found.proof


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(kind: Kind) -> None:
    proof = make_proof() if kind == "wpt" else make_dpop().proof
    written = presentation.headers(kind, token=TOKEN, proof=proof)
    found = read(list(written.items()))
    assert (found.token, proof_of(found)) == (TOKEN, proof)
    assert isinstance(found.proof, DPoP) == (kind == "dpop")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param([], "token.missing", id="nothing"),
        pytest.param([(WPT, "p")], "token.missing", id="a WPT alone"),
        pytest.param([(DPOP, "p")], "token.missing", id="a DPoP proof alone"),
        pytest.param([(AUTHORIZATION, "DPoP")], "token.missing", id="no token behind the scheme"),
        pytest.param([(AUTHORIZATION, "DPoP ")], "token.missing", id="an empty token"),
        pytest.param([(AUTHORIZATION, "Bearer t"), (DPOP, "p")], "token.missing", id="a bearer"),
        pytest.param([(AUTHORIZATION, "DPoPt t"), (DPOP, "p")], "token.missing", id="a scheme"),
        pytest.param([(WIT, "t"), (WIT, "t")], "token.malformed", id="two tokens"),
        pytest.param([(WIT, "t"), (WPT, "p"), (WPT, "p")], "proof.malformed", id="two proofs"),
        pytest.param(
            [(AUTHORIZATION, "DPoP t"), (AUTHORIZATION, "dpop t")], "token.malformed", id="twice"
        ),
        pytest.param(
            [(AUTHORIZATION, "DPoP t"), (DPOP, "p"), (DPOP, "p")], "proof.malformed", id="2 DPoPs"
        ),
        pytest.param(
            [(WIT, "t"), (WPT, "p"), (AUTHORIZATION, "DPoP t"), (DPOP, "p")], "proof.malformed",
            id="both kinds",
        ),
        pytest.param([(WIT, "t"), (DPOP, "p")], "proof.malformed", id="half of each"),
        pytest.param([(AUTHORIZATION, "DPoP t"), (WPT, "p")], "proof.malformed", id="other half"),
    ],
)  # fmt: skip
def test_what_is_refused(headers: Headers, reason: str) -> None:
    with pytest.raises((Malformed, Refused)) as refusal:
        read(headers)
    assert reasons(refusal.value) == [reason]


@pytest.mark.parametrize(
    ("headers", "proof"),
    [
        pytest.param([(WIT, "t"), (WPT, "p"), (AUTHORIZATION, "Basic a")], "p", id="another's"),
        pytest.param([(WIT, "t")], "", id="a token alone"),
        pytest.param([(AUTHORIZATION, "dpop  t"), (DPOP, "p")], "p", id="small letters"),
        pytest.param([(AUTHORIZATION, "DPoP t")], "", id="a DPoP token alone"),
    ],
)
def test_what_is_for_check_to_judge(headers: Headers, proof: str) -> None:
    found = read(headers)
    assert (found.token, proof_of(found)) == ("t", proof)


names = st.sampled_from([WIT, WPT, AUTHORIZATION, DPOP])


@given(st.lists(st.tuples(names, st.text() | st.text().map("DPoP {}".format)), max_size=6))
def test_no_headers_are_an_unhandled_error(headers: Headers) -> None:
    with suppress(Malformed, Refused):
        assert read(headers).token


def test_a_wpt_has_no_nonce() -> None:
    with pytest.raises(Malformed):
        presentation.compose(
            "wpt", token=TOKEN, use_key=b"", audience="a", method="GET", url="https://a.example/",
            nonce="n", now=NOW, jti=bytes(16),
        ).sign(USE_KEY)  # fmt: skip
