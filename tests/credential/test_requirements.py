"""Each demand of a relying party: met, and broken with its own reason."""
# ruff: noqa: ANN401 - `changes` are of any type

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest

from credential import Refused, Requirements
from credential.requirements import Demands
from tests.credential.world import (
    AUDIENCE,
    CLAIMS,
    NOW,
    PROCSEAL,
    TOKEN,
    accept,
    make_proof,
    make_token,
    reasons,
)

MINUTE = timedelta(minutes=1)
CONTROLLER = "spiffe://example.org/controller"
OTHER_DIGEST = "sha256:" + "00" * 32


@pytest.mark.parametrize(
    "demands",
    [
        pytest.param({"binding": "attached"}, id="binding"),
        pytest.param({"max_evidence_age": MINUTE, "now": NOW + MINUTE}, id="evidence of a minute"),
        pytest.param({"proof_keys": ("attestor",)}, id="the attestor signs"),
        pytest.param({"proof_keys": ("tpm", "attestor")}, id="or the TPM"),
        pytest.param({"scopes": ("post",)}, id="a scope"),
        pytest.param({"labels": ("zone=eu-1",)}, id="a label"),
        pytest.param({"context": ("session", "session=17")}, id="context"),
        pytest.param({"executables": (PROCSEAL.executable,)}, id="the executable"),
        pytest.param({"executables": (OTHER_DIGEST, PROCSEAL.executable)}, id="one of two"),
    ],
)
def test_a_demand_that_is_met(demands: dict[str, Any]) -> None:
    now = demands.get("now", NOW)
    assert accept(TOKEN, make_proof(now=now), **demands) == CLAIMS


@pytest.mark.parametrize(
    ("demands", "changes", "reason", "expected", "found"),
    [
        pytest.param(
            {"binding": "launched"}, {}, "token.of-another-binding", "launched", "attached",
            id="attached for launched",
        ),
        pytest.param(
            {"binding": "attached"}, {"binding": "launched"}, "token.of-another-binding",
            "attached", "launched", id="launched for attached",
        ),
        pytest.param(
            {"proof_keys": ("attestor", "tpm")}, {"proof_key": "process"},
            "token.of-another-proof-key", "attestor tpm", "process", id="it signs itself",
        ),
        pytest.param(
            {"max_evidence_age": MINUTE}, {"issued": NOW - MINUTE - timedelta(seconds=1)},
            "token.evidence-too-old", "at most 0:01:00 old", "of 2026-11-24T11:58:59+00:00",
            id="evidence a second too old",
        ),
        pytest.param(
            {"scopes": ("post", "void")}, {}, "token.scope-missing", "void", "post",
            id="one scope of two",
        ),
        pytest.param(
            {"scopes": ("post",)}, {"scopes": ()}, "token.scope-missing", "post", "",
            id="no scope at all",
        ),
        pytest.param(
            {"scopes": ("post",)}, {"scopes": ("posts", "POST")}, "token.scope-missing", "post",
            "posts POST", id="nearly the scope",
        ),
        pytest.param(
            {"executables": (OTHER_DIGEST,)}, {}, "token.of-another-executable", OTHER_DIGEST,
            PROCSEAL.executable, id="another executable",
        ),
        pytest.param(
            {"labels": ("zone=eu-1", "zone=eu-2")}, {}, "token.label-missing", "zone=eu-2",
            "zone=eu-1", id="another zone",
        ),
        pytest.param(
            {"labels": ("zone=eu-1",)}, {"labels": {}}, "token.label-missing", "zone=eu-1", "",
            id="no label at all",
        ),
        pytest.param(
            {"context": ("session=18",)}, {}, "token.context-missing", "session=18", "session=17",
            id="another session",
        ),
        pytest.param(
            {"context": ("session", "ticket")}, {"context": {"session": "ticket"}},
            "token.context-missing", "ticket", "session=ticket", id="no ticket",
        ),
        pytest.param(
            {"context": ("session",)}, {"context": {}}, "token.context-missing", "session", "",
            id="no context at all",
        ),
        pytest.param(
            {"parent": CONTROLLER}, {"parent": f"{CONTROLLER}-2"}, "token.of-another-parent",
            CONTROLLER, f"{CONTROLLER}-2", id="another parent",
        ),
        pytest.param(
            {"parent": CONTROLLER}, {}, "token.of-another-parent", CONTROLLER, "", id="no parent",
        ),
        pytest.param(
            {"job": "build-17"}, {"job": "build-18"}, "token.of-another-job", "build-17",
            "build-18", id="another job",
        ),
        pytest.param(
            {"minimum": "L3"}, {}, "token.level-below-minimum", "L3", "L2", id="level",
        ),
        pytest.param(
            {"audience": "https://other.example.org"}, {}, "token.audience-not-allowed",
            AUDIENCE, "https://other.example.org", id="audience",
        ),
    ],
)  # fmt: skip
def test_a_demand_that_is_not_met(
    demands: dict[str, Any], changes: dict[str, Any], reason: str, expected: str, found: str
) -> None:
    token = make_token(**changes)
    with pytest.raises(Refused) as refusal:
        accept(token, make_proof(token), **demands)
    [finding] = refusal.value.findings
    assert (finding.reason, finding.expected, finding.found) == (reason, expected, found)


def test_a_step_of_that_job() -> None:
    token = make_token(parent=CONTROLLER, job="build-17")
    found = accept(token, make_proof(token), parent=CONTROLLER, job="build-17")
    assert found.procseal.job == "build-17"


def test_the_keywords_of_check_are_the_requirements() -> None:
    assert list(Demands.__annotations__) == [field.name for field in fields(Requirements)]


def test_what_is_not_met_is_told_together() -> None:
    with pytest.raises(Refused) as refusal:
        accept(
            TOKEN, make_proof(), binding="launched", scopes=("void",), executables=(OTHER_DIGEST,)
        )
    assert reasons(refusal.value) == [
        "token.of-another-binding", "token.scope-missing", "token.of-another-executable",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("audience", ""), ("audience", "two words"),
        ("minimum", ""), ("minimum", "L0"), ("minimum", None),
        ("binding", ""), ("binding", "started"),
        ("proof_keys", ()), ("proof_keys", ("",)), ("proof_keys", ("TPM",)), ("proof_keys", "tpm"),
        ("max_evidence_age", timedelta()), ("max_evidence_age", -MINUTE),
        ("scopes", ()), ("scopes", ""), ("scopes", "post"), ("scopes", ("a b",)), ("scopes", [""]),
        ("executables", ()), ("executables", ("3f" * 32,)), ("executables", PROCSEAL.executable),
        ("parent", ""), ("parent", "controller"),
        ("job", ""), ("job", "a b"),
        ("labels", ()), ("labels", ("zone",)), ("labels", ("zone=",)), ("labels", {"zone": "a"}),
        ("context", ()), ("context", ("",)), ("context", ("Session",)), ("context", ("session=",)),
        ("max_status_age", -MINUTE),
    ],
)  # fmt: skip
def test_a_demand_that_nobody_can_mean_is_its_authors_mistake(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Requirements(**{"audience": AUDIENCE, "minimum": "L2", name: wrong})


def test_a_demand_of_another_name_is_a_mistake_too() -> None:
    wrong: dict[str, Any] = {"audience": AUDIENCE, "minimum": "L2", "scope": ("post",)}
    with pytest.raises(TypeError, match="scope"):
        Requirements(**wrong)
