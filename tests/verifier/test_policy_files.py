"""Reference sets and workloads as people write them: read as meant, or refused by name."""

import re
import string
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode
from verifier import Reason, Rejected
from verifier.policy import (
    LEVELS,
    Container,
    Interpreted,
    Policy,
    ReferenceSet,
    Use,
    Workload,
    build_policy,
)
from verifier.reference import encode_reference, read_reference
from verifier.window import Window
from verifier.workload import EXAMPLE, read_workload

ROOT = Path(__file__).parent.parent.parent
HEX = "ab" * 32
KEY = f"{{{'a.' * 20}a = 1}}"
"""A table whose one key has 21 parts."""


def refused(text: str, *, workload: bool = False) -> str:
    """Return what a refusal of the document speaks of."""
    with pytest.raises(Rejected) as rejection:
        (read_workload if workload else read_reference)(text)
    (finding,) = rejection.value.findings
    assert finding.reason == Reason.POLICY_INVALID
    return f"{finding.what} | {finding.expected} | {finding.found}"


# Reference sets

component = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8
).filter(lambda text: text not in {".", ".."})
path = st.lists(component, min_size=1, max_size=4).map("/".join)
digest = st.binary(min_size=32, max_size=32)
name = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    name=name,
    files=st.dictionaries(
        path, st.lists(digest, min_size=1, max_size=3, unique=True).map(tuple), min_size=1
    ),
    nodes=st.lists(name, max_size=3, unique=True).map(tuple),
    source=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30),
)
def test_round_trip(
    name: str, files: dict[str, tuple[bytes, ...]], nodes: tuple[str, ...], source: str
) -> None:
    reference = ReferenceSet(name=name, files=files, nodes=nodes, source=source)
    text = encode_reference(reference)
    assert read_reference(text) == reference
    shuffled = ReferenceSet(
        name=name, files=dict(reversed(files.items())), nodes=nodes, source=source
    )
    assert encode_reference(shuffled) == text


def test_a_set_as_it_is_written() -> None:
    reference = ReferenceSet(
        name="debian-12",
        files={"usr/bin/bash": (bytes.fromhex(HEX),), 'a "b"\\c': (sha256(b""), sha256(b"x"))},
        nodes=("build-7",),
        source="by hand",
    )
    assert encode_reference(reference) == (
        "version = 1\n"
        'name = "debian-12"\n'
        'source = "by hand"\n'
        'nodes = ["build-7"]\n'
        "\n"
        "[files]\n"
        f'"a \\"b\\"\\\\c" = ["sha256:{sha256(b"").hex()}", "sha256:{sha256(b"x").hex()}"]\n'
        f'"usr/bin/bash" = "sha256:{HEX}"\n'
    )
    assert reference.paths[bytes.fromhex(HEX)] == "usr/bin/bash"


SET = f'version = 1\nname = "x"\n[files]\n"usr/bin/x" = "sha256:{HEX}"\n'


@pytest.mark.parametrize(
    ("old", "new", "speaks_of"),
    [
        ("version = 1", "", "version"),
        ("version = 1", "version = 2", "version"),
        ("version = 1", "version = true", "version"),
        ("version = 1", 'version = "1"', "version"),
        ('name = "x"', "", "name"),
        ('name = "x"', 'name = "X"', "name"),
        ('name = "x"', 'name = "x\\n"', "name"),
        ('name = "x"', "name = 1", "name"),
        ('name = "x"', 'name = "x"\nextra = 1', "extra"),
        ('name = "x"', 'name = "x"\nnodes = []', "nodes"),
        ('name = "x"', 'name = "x"\nnodes = "a"', "nodes"),
        ('name = "x"', 'name = "x"\nnodes = ["a", "a"]', "nodes"),
        ('name = "x"', 'name = "x"\nnodes = ["A"]', "nodes"),
        ('name = "x"', 'name = "x"\nsource = "a\\nb"', "source"),
        (f'"usr/bin/x" = "sha256:{HEX}"', "", "files"),
        (f'[files]\n"usr/bin/x" = "sha256:{HEX}"', "", "files"),
        (f'[files]\n"usr/bin/x" = "sha256:{HEX}"', "files = 1", "files"),
        (f'"sha256:{HEX}"', "[]", "usr/bin/x"),
        (f'"sha256:{HEX}"', f'["sha256:{HEX}", "sha256:{HEX}"]', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'["sha256:{HEX}", 1]', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'"sha256:{HEX.upper()}"', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'"sha256:{HEX}\\n"', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'"sha256:{HEX[:-2]}"', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'"sha512:{HEX}"', "usr/bin/x"),
        (f'"sha256:{HEX}"', f'"{HEX}"', "usr/bin/x"),
        (f'"sha256:{HEX}"', "{}", "usr/bin/x"),
        ("usr/bin/x", "/usr/bin/x", "/usr/bin/x"),
        ("usr/bin/x", "usr/../x", "usr/../x"),
        ('name = "x"', f"name = 0x{'f' * 5000}", "too long"),
        ('name = "x"', f"name = [0x{'f' * 5000}]", "too long"),
    ],
)
def test_a_set_that_is_not_read(old: str, new: str, speaks_of: str) -> None:
    assert read_reference(SET).files == {"usr/bin/x": (bytes.fromhex(HEX),)}
    assert old in SET
    assert speaks_of in refused(SET.replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# \udccf\n" + SET, id="what is no text"),
        pytest.param(f"a = {'1' * 5000}\n" + SET, id="a number of 5000 digits"),
        pytest.param(f"a = {'[' * 5000}", id="arrays 5000 deep"),
        pytest.param(f"[{'a.' * 500_000}a]\n", id="a table of half a million parts"),
        pytest.param('"a".' * 500_000 + "a = 1\n", id="a key of half a million parts"),
        pytest.param('a = "' + '\\"' * 500_000, id="a text without end"),
        pytest.param('a = """' + '\\"""x' * 200_000, id="a text of several lines without end"),
        pytest.param(f"""a = ["x", {KEY}, "y"]\n""", id="a key between texts"),
        pytest.param(
            f"""a = [\"\"\"x\"\"\"\", {KEY}, "y"]\n""", id="after a text that ends in a quote"
        ),
        pytest.param(f"""a = [\'\'\'x\'\'\'\', {KEY}, 'y']\n""", id="after a verbatim one"),
        pytest.param(f"""a = ["\\\\", {KEY}, "y"]\n""", id="after a text that ends in a backslash"),
        pytest.param(f"""a = ['\\', {KEY}, 'y']\n""", id="after a verbatim backslash"),
        pytest.param(f"a = {{{'a . ' * 20}a = 1}}\n", id="a key of twenty parts"),
    ],
)
def test_what_the_toml_library_cannot_read_is_refused(text: str) -> None:
    assert "TOML" in refused(text)
    assert "TOML" in refused(text, workload=True)


def test_dots_in_texts_and_comments_are_no_parts_of_a_key() -> None:
    path = "lib" + ".1" * 100
    text = SET.replace("usr/bin/x", path) + f"# {path} '\n" + f"\"{path}'\" = 'sha256:{HEX}'"
    assert set(read_reference(text).files) == {path, f"{path}'"}


# Workloads


def test_a_workload_as_it_is_written() -> None:
    assert read_workload(EXAMPLE) == Workload(
        id="spiffe://example.org/payments",
        executable_set="payments-1.4",
        executable_file="bin/payments",
        mapped=("debian-12", "payments-1.4"),
        user="payments",
        unit="payments.service",
        any_starter=False,
        minimum="L2",
        uses=(
            Use(
                audience="https://ledger.example.org",
                scopes=("read", "post"),
                window=Window(days=(0, 1, 2, 3, 4), opens=360, closes=1200, zone="UTC"),
            ),
            Use(
                audience="https://ledger.example.org",
                scopes=("close-year",),
                needs_approval=True,
            ),
        ),
        lifetime=timedelta(minutes=10),
        lease=timedelta(minutes=5),
        posture=("secure-boot", "lockdown"),
        revokes_misused=True,
        context=("session",),
        nodes={"zone": "eu-1"},
        network=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")),
    )


@pytest.mark.parametrize(
    ("lines", "lifetime", "lease"),
    [
        ("", timedelta(minutes=10), timedelta(minutes=5)),
        ('lifetime = "2m"', timedelta(minutes=2), timedelta(minutes=2)),
        ('lifetime = "1h"', timedelta(hours=1), timedelta(minutes=5)),
        ('lifetime = "90s"\nlease = "30s"', timedelta(seconds=90), timedelta(seconds=30)),
    ],
)
def test_times_that_are_left_out(lines: str, lifetime: timedelta, lease: timedelta) -> None:
    text = EXAMPLE.replace('lease = "5m"\n', f"{lines}\n")
    text = "\n".join(line for line in text.splitlines() if not line.startswith('lifetime = "10m"'))
    workload = read_workload(text)
    assert (workload.lifetime, workload.lease) == (lifetime, lease)


UNIT = 'unit = "payments.service"'


@pytest.mark.parametrize("level", LEVELS)
def test_levels(level: str) -> None:
    assert read_workload(EXAMPLE.replace('"L2"', f'"{level}"')).minimum == level


def test_any_starter() -> None:
    workload = read_workload(EXAMPLE.replace(UNIT, "any_starter = true"))
    assert (workload.unit, workload.any_starter) == ("", True)


CONTAINER = 'container = { set = "shop-2.1", cgroup = "CGROUP" }'


@pytest.mark.parametrize("cgroup", ["/shop/*", "/shop", "/machine.slice/crun-a_1.scope", "/a/b/*"])
def test_a_container(cgroup: str) -> None:
    workload = read_workload(EXAMPLE.replace(UNIT, CONTAINER.replace("CGROUP", cgroup)))
    assert (workload.unit, workload.any_starter) == ("", False)
    assert workload.container == Container(image="shop-2.1", cgroup=cgroup)


@pytest.mark.parametrize(
    "cgroup",
    ["", "/", "/*", "*", "shop/*", "/shop/", "/shop*", "/shop/a*", "/*/shop", "/shop/*/*",
     "/shop/**", "/./shop", "/shop/..", "/../shop", "/shop//*", "/shop/.", "/shop/[a]",
     "/shop/a.*b", "/s p", "/shop/*\\n"],
)  # fmt: skip
def test_a_cgroup_that_could_be_any(cgroup: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_workload(EXAMPLE.replace(UNIT, CONTAINER.replace("CGROUP", cgroup)))
    [finding] = refused.value.findings
    assert finding.reason is Reason.POLICY_INVALID
    assert finding.what == "workload spiffe://example.org/payments: container: cgroup"


@pytest.mark.parametrize("other", [UNIT, "any_starter = true"])
def test_a_container_and_another_starter(other: str) -> None:
    both = f"{other}\n{CONTAINER.replace('CGROUP', '/shop/*')}"
    with pytest.raises(Rejected) as refused:
        read_workload(EXAMPLE.replace(UNIT, both))
    [finding] = refused.value.findings
    assert finding.reason is Reason.POLICY_INVALID
    assert finding.expected.startswith("one of unit, any_starter = true, container")


def test_an_interpreter() -> None:
    wanted = 'interpreter = { script = "bin/agent.py", modules = "agent-1.2" }'
    workload = read_workload(EXAMPLE.replace(UNIT, f"{UNIT}\n{wanted}"))
    assert workload.interpreter == Interpreted(script="bin/agent.py", modules="agent-1.2")
    assert workload.modules == ("agent-1.2", "payments-1.4", "debian-12")
    assert read_workload(EXAMPLE).modules == ()


USE = """\
[[use]]
audience = "https://ledger.example.org"
scopes = ["read", "post"]
window = "Mon-Fri 06:00-20:00 UTC"          # in any zone; without it, always

[[use]]
audience = "https://ledger.example.org"
scopes = ["close-year"]
grant = "approval"                          # by an operator, each time, for a while
"""
SCOPES = '["read", "post"]'


@pytest.mark.parametrize(
    ("old", "new", "speaks_of"),
    [
        ("spiffe://example.org/payments", "spiffe://example.org", "id"),
        ("spiffe://example.org/payments", "spiffe://example.org/", "id"),
        ("spiffe://example.org/payments", "spiffe://example.org/a/../b", "id"),
        ("spiffe://example.org/payments", "spiffe://example.org/a//b", "id"),
        ("spiffe://example.org/payments", "spiffe://Example.org/a", "id"),
        ("spiffe://example.org/payments", "spiffe://example.org/a\\n", "id"),
        ("spiffe://example.org/payments", "spiffe://example.org/a?b", "id"),
        ("spiffe://example.org/payments", "https://example.org/a", "id"),
        ("bin/payments", "/bin/payments", "file"),
        ("bin/payments", "../payments", "file"),
        ('set = "payments-1.4", ', "", "set"),
        ('file = "bin/payments" }', 'file = "bin/payments", x = 1 }', "x"),
        ('["debian-12", "payments-1.4"]', '"debian-12"', "mapped"),
        ('["debian-12", "payments-1.4"]', '["a", "a"]', "mapped"),
        ('user = "payments"', 'user = "Payments"', "user"),
        ('user = "payments"', 'user = ""', "user"),
        ('user = "payments"', "", "user"),
        (UNIT, f"{UNIT}\ninterpreter = 1", "interpreter"),
        (UNIT, f'{UNIT}\ninterpreter = {{ script = "a.py" }}', "modules"),
        (UNIT, f'{UNIT}\ninterpreter = {{ script = "../a.py", modules = "a" }}', "script"),
        (UNIT, f'{UNIT}\ninterpreter = {{ script = "a", modules = "a", x = 1 }}', "x"),
        (UNIT, "", "unit"),
        (UNIT, "any_starter = false", "unit"),
        (UNIT, f"{UNIT}\nany_starter = true", "unit"),
        (UNIT, "any_starter = 1", "any_starter"),
        (UNIT, 'unit = "a/b"', "unit"),
        ('"L2"', '"L0"', "minimum"),
        ('"L2"', '"l2"', "minimum"),
        ('"L2"', '"L2\\n"', "minimum"),
        ('minimum = "L2"', "", "minimum"),
        ('"10m"', '"10"', "lifetime"),
        ('"10m"', '"0m"', "lifetime"),
        ('"10m"', '"2h"', "lifetime"),
        ('"10m"', "600", "lifetime"),
        ('"5m"', '"11m"', "lease"),
        (USE, "", "use"),
        (USE, USE + USE, "use"),
        (USE, "[use]\n", "use"),
        ("https://ledger.example.org", "ledger", "audience"),
        ("https://ledger.example.org", "https://ledger.example.org ", "audience"),
        (SCOPES, '["po st"]', "scopes"),
        (SCOPES, '["read", "read"]', "scopes"),
        ('"Mon-Fri 06:00-20:00 UTC"', '"Mon-Fri"', "window"),
        ('"Mon-Fri 06:00-20:00 UTC"', '"Mon-Fri 06:00-20:00 Mars"', "window"),
        ('"Mon-Fri 06:00-20:00 UTC"', "6", "window"),
        ('"approval"', '"none"', "grant"),
        ('"approval"', "true", "grant"),
        ('"approval"', '"approval"\nuntil = "1h"', "until"),
        ('{ zone = "eu-1" }', "{}", "nodes"),
        ('{ zone = "eu-1" }', '{ Zone = "eu-1" }', "nodes"),
        ('{ zone = "eu-1" }', '{ zone = "eu 1" }', "zone"),
        ('{ zone = "eu-1" }', "{ zone = 1 }", "zone"),
        ('{ zone = "eu-1" }', '["build-7"]', "nodes"),
        ('["10.1.0.0/16", "fd00:1::/64"]', "[]", "network"),
        ('"10.1.0.0/16"', '"10.1.0.1/16"', "network"),
        ('"10.1.0.0/16"', '"10.1.0.0"', "network"),
        ('"10.1.0.0/16"', '"10.1.0.0/33"', "network"),
        ('"10.1.0.0/16"', '"example.org/16"', "network"),
        ('"fd00:1::/64"', '"10.1.0.0/16"', "network"),
        ('["session"]', '["session", "session"]', "context"),
        ('["session"]', '["Session"]', "context"),
        ('["session"]', '["session="]', "context"),
        ('["session"]', str([f"a{one}" for one in range(17)]), "context"),
        ('"revoke"', '"ignore"', "on_misuse"),
        ('"revoke"', "true", "on_misuse"),
        *(
            (UNIT, f"{UNIT}\n{line}", line.partition(" ")[0])
            for line in (
                "bearer = true",
                'launch = { argv = ["x"] }',
                "anonymous_code = true",
            )
        ),
    ],
)
def test_a_workload_that_is_not_read(old: str, new: str, speaks_of: str) -> None:
    """The keys of a later version are unknown here: refused, not passed over."""
    assert old in EXAMPLE
    assert speaks_of in refused(EXAMPLE.replace(old, new, 1), workload=True)


@pytest.mark.parametrize("page", ["README.md", "docs/purpose.md"])
def test_what_the_pages_show_is_read(page: str) -> None:
    blocks = re.findall(r"(?ms)^```toml\n(.*?)^```$", (ROOT / page).read_text())
    [shown] = [one for one in blocks if "[[use]]" in one]
    read = read_workload(EXAMPLE.partition("posture")[0] + shown)
    assert (read.nodes, read.context) == ({"zone": "eu-1"}, ("session",))
    assert any(one.needs_approval for one in read.uses)


@settings(max_examples=300)
@given(st.text(max_size=60))
def test_junk_is_refused(text: str) -> None:
    for read in (read_reference, read_workload):
        with pytest.raises(Rejected):
            read(text)


# Put together


def misfits(**changes: object) -> set[str]:
    policy: Policy = SimulatedNode().policy()
    fields: dict[str, object] = {
        "version": 1,
        "trust_domain": policy.trust_domain,
        "sets": policy.sets,
        "workloads": policy.workloads,
        "kernel_policies": policy.kernel_policies,
    }
    with pytest.raises(Rejected) as rejection:
        build_policy(**(fields | changes))  # type: ignore[arg-type]
    assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}
    return {f"{one.expected} | {one.found}" for one in rejection.value.findings}


def test_what_does_not_fit_together() -> None:
    policy = SimulatedNode().policy()
    system, program = policy.sets
    (workload,) = policy.workloads
    assert misfits(sets=(system, program, program)) == {"one of that name | several"}
    assert misfits(workloads=(workload, workload)) == {"one of that id | several"}
    assert misfits(sets=(system,)) == {
        "set payments-1.4 | none such",
        "set or signer payments-1.4 | none such",
    }
    assert misfits(sets=(program,)) == {"set or signer debian-12 | none such"}
    contained = replace(workload, container=Container(image="shop-2.1", cgroup="/shop/*"))
    assert misfits(workloads=(contained,)) == {"set shop-2.1 | none such"}
    for script, modules in (("bin/payments", "agent-1.2"), ("bin/agent.py", "payments-1.4")):
        other = replace(workload, interpreter=Interpreted(script=script, modules=modules))
        assert misfits(workloads=(other,)) == {f"{script} in set {modules} | no such file"}
    interpreted = Interpreted(script="bin/payments", modules="payments-1.4")
    high = replace(workload, interpreter=interpreted, minimum="L3")
    assert misfits(workloads=(high,)) == {"L2 at most, being an interpreter | L3"}
    assert misfits(trust_domain="example.net") == {f"spiffe://example.net/… | {workload.id}"}
    assert misfits(user_register=10) == {"three different ones | (10, 10, 13)"}
