"""The log line: one form, and nothing else is read."""
# ruff: noqa: ANN401 - JSON is of any type

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Finding, Malformed, use
from credential.wit import LEVELS
from tests.credential.world import AUDIENCE, CLAIMS, NOW, flips, reasons, truncations

USE = use.make(
    id="A" * 22, now=NOW, audience=AUDIENCE, method="POST", target="/post", claims=CLAIMS
)
LINE = use.encode(USE)
FIRST, LAST = datetime.fromisoformat("1970-01-01"), datetime.fromisoformat("2099-01-01")
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100)


def test_the_line_is_json_that_scripts_read() -> None:
    assert json.loads(LINE) == {
        "type": "procseal use 1", "id": "A" * 22, "time": "2026-11-24T12:00:00Z",
        "verdict": "accepted", "reasons": [], "audience": AUDIENCE, "method": "POST",
        "target": "/post", "issuer": CLAIMS.issuer, "subject": CLAIMS.id, "scopes": ["post"],
        "jti": CLAIMS.jti, "executable": CLAIMS.procseal.executable, "node": "build-7",
        "level": "L2", "parent": CLAIMS.procseal.parent, "job": CLAIMS.procseal.job,
        "context": {"session": "17"}, "grant": CLAIMS.procseal.grant,
    }  # fmt: skip


@given(
    printable,
    printable,
    st.sampled_from(LEVELS),
    st.dictionaries(
        st.from_regex(r"[a-z]{1,9}", fullmatch=True), printable.filter(bool), max_size=9
    ),
    st.datetimes(timezones=st.just(UTC), min_value=FIRST, max_value=LAST),
)
def test_what_is_written_is_read(
    method: str, target: str, level: str, context: dict[str, str], time: datetime
) -> None:
    one = replace(
        USE, method=method, target=target, level=level, context=context,
        time=time.replace(microsecond=0),
    )  # fmt: skip
    assert use.read(use.encode(one)) == one


def test_the_longest_token_makes_a_line() -> None:
    said = replace(
        CLAIMS.procseal,
        scopes=tuple(f"{number:02}" + "s" * 253 for number in range(64)),
        context={f"c{number:02}": '"' * 255 for number in range(16)},
    )
    claims = replace(CLAIMS, procseal=said)
    made = use.make(
        id="A" * 22, now=NOW, audience="a" * 2048, method="POST", target='"' * 5000, claims=claims
    )
    assert use.read(use.encode(made)) == made


def test_no_other_line_is_read() -> None:
    for text in (*truncations(LINE), b"", LINE.encode() + b"\n"):
        with pytest.raises(Malformed):
            use.read(text.decode("latin-1"))
    for text in flips(LINE):  # some are lines too, but none says the same
        with suppress(Malformed):
            assert use.read(text.decode("latin-1")) != USE


def with_(**changes: Any) -> str:
    return json.dumps({**json.loads(LINE), **changes}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(with_(type="procseal use 2"), "use.version-unknown", id="another version"),
        pytest.param(with_(more=1), "use.malformed", id="a member more"),
        pytest.param(with_(id="x"), "use.malformed", id="a short id"),
        pytest.param(with_(time="2026-11-24T12:00:61Z"), "use.malformed", id="no time"),
        pytest.param(with_(time="2026-11-24T12:00:00+00:00"), "use.malformed", id="a zone"),
        pytest.param(with_(verdict="perhaps"), "use.malformed", id="another verdict"),
        pytest.param(with_(verdict="refused"), "use.malformed", id="refused for no reason"),
        pytest.param(with_(reasons=["proof.late"]), "use.malformed", id="accepted and a reason"),
        pytest.param(with_(subject=""), "use.malformed", id="accepted and nobody"),
        pytest.param(with_(target="/\n"), "use.malformed", id="a control character"),
        pytest.param(with_(context=[]), "use.malformed", id="no context"),
        pytest.param(LINE.replace(",", ", "), "use.malformed", id="spaces"),
        pytest.param(LINE.replace("/post", "/\\u0070ost"), "use.malformed", id="an escape"),
        pytest.param("[]", "use.malformed", id="an array"),
        pytest.param("x" * (use.MOST_BYTES + 1), "use.malformed", id="too long"),
    ],
)
def test_another_form_is_malformed(line: str, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        use.read(line)
    assert reasons(refusal.value) == [reason]


def test_a_reason_is_told_once() -> None:
    twice = [Finding(reason="proof.late"), Finding(reason="proof.late")]
    made = use.make(
        id="A" * 22, now=NOW, audience=AUDIENCE, method="GET", target="/", claims=None,
        findings=twice,
    )  # fmt: skip
    assert made.reasons == ("proof.late",)
