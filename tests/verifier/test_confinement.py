"""Level L4, one condition at a time: records of genuine kernels, in lists that are not."""
# ruff: noqa: ANN401 - `changes` and `values` are fields of any type

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from evidence.ima import Record, encode_template
from tests.critical_data import (
    DEVICE,
    POLICY_61,
    POLICY_612,
    POLICY_RECORD_612,
    RESUMED_61,
    RESUMED_612,
    ROOT_DIGEST,
    STATE_61,
    STATE_612,
    TABLE_61,
    TABLE_612,
    confinement_toml,
    verity_toml,
)
from tests.simulated_boot import boot_uki
from tests.simulated_keys import sha256
from tests.simulated_node import SYSTEM_FILES, SimulatedNode, make_record
from tests.simulated_process import SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, reasons
from tests.verifier.test_levels import STRICT, STRICT_POSTURE, launched, launching, outcome
from verifier import Accepted, Reason, Rejected
from verifier.boot_policy import read_boot_policy
from verifier.confinement import Confinement
from verifier.policy import ReferenceSet
from verifier.reference import read_reference_value
from verifier.verity import Verity

ROOT = "root on the node"
IDENTITY = "the identity"
LIST = "the measurement list"

LOADED = ("dm_table_load", TABLE_612.encode())
RESUMED = ("dm_device_resume", RESUMED_612.encode())
STATE = ("selinux-state", STATE_612.encode())
POLICY = ("selinux-policy-hash", bytes.fromhex(POLICY_612))
GENUINE = (LOADED, RESUMED, STATE, POLICY)

PERMISSIVE = ("selinux-state", STATE_612.replace("enforcing=1", "enforcing=0").encode())
RELAXED = ("selinux-policy-hash", bytes.fromhex(POLICY_61))
REMOVED = ("dm_device_remove", b"dm_version=4.48.0;name=root,uuid=;device_remove=no_data;")
LINEAR = ("dm_table_load", TABLE_612.replace("verity", "linear").encode())


def verity(*tables: str, **changes: Any) -> Verity:
    value = read_reference_value(verity_toml(*tables))
    assert isinstance(value, Verity)
    return replace(value, **changes)


def confinement(*states: str, **changes: Any) -> Confinement:
    value = read_reference_value(confinement_toml(*states))
    assert isinstance(value, Confinement)
    return replace(value, **changes)


VERITY = verity(TABLE_612)
CONFINEMENT = confinement(STATE_612)


def sealed_node(records: tuple[tuple[str, bytes], ...] = GENUINE) -> SimulatedNode:
    """Return a closed node, whose kernel said this of itself before the kernel policy."""
    node = SimulatedNode()
    node.critical = records
    node.reboot(boot_uki(STRICT))
    node.posture = STRICT_POSTURE
    return node


def trusting(
    node: SimulatedNode,
    *,
    known: tuple[tuple[str, bytes], ...] = (),
    workload: dict[str, Any] | None = None,
    **values: Any,
) -> SimulatedVerifier:
    """Return a verifier that vouches for the node, and has these records in a set besides."""
    more = ReferenceSet(name="more", files={f"{sha256(b).hex()}": (sha256(b),) for _, b in known})
    sets = (*node.policy().sets, *((more,) if known else ()))
    fields = {"verities": (VERITY,), "confinements": (CONFINEMENT,), "sets": sets} | values
    return SimulatedVerifier(
        node,
        boot_policies=(read_boot_policy(node.boot_policy_toml(STRICT)),),
        workloads=(launching(node, **(workload or {})),),
        **fields,
    )


def sealed_process(node: SimulatedNode, device: int = DEVICE) -> SimulatedProcess:
    """Return a process as its workload says, whose files are on the device."""
    process = launched(node)
    files = tuple(replace(one, device=device) for one in process.look.files)
    return process.looking(executable=files[0], files=files)


def reached(verifier: SimulatedVerifier, process: SimulatedProcess | None = None) -> str:
    one = outcome(verifier, process or sealed_process(verifier.peer))
    assert isinstance(one, Accepted), one
    assert bool(one.lacks) == (one.level != "L4")
    return one.level


def test_a_sealed_machine() -> None:
    node = sealed_node()
    assert reached(trusting(node, workload={"minimum": "L4"})) == "L4"


def test_the_digest_in_the_record_of_a_policy_is_of_its_digest() -> None:
    assert sha256(bytes.fromhex(POLICY_612)).hex() == POLICY_RECORD_612
    assert (b"selinux-policy-hash", bytes.fromhex(POLICY_RECORD_612)) in CONFINEMENT.known


def test_each_later_evidence_too() -> None:
    """The records were judged before, and are in the stored list."""
    verifier = trusting(sealed_node())
    process = sealed_process(verifier.peer)
    assert reached(verifier, process) == "L4"
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge(), known=[process]))
    [one] = verdict.processes
    assert isinstance(one, Accepted)
    assert one.level == "L4"


# The TPM


@pytest.mark.attack(number=48, attacker=ROOT, asset=LIST)
@pytest.mark.parametrize(
    "records",
    [
        pytest.param((LOADED, RESUMED), id="no SELinux"),
        pytest.param((LOADED, RESUMED, POLICY), id="no state"),
        pytest.param((LOADED, RESUMED, STATE), id="no policy"),
        pytest.param((*GENUINE, PERMISSIVE), id="permissive since"),
        pytest.param((PERMISSIVE, *GENUINE), id="permissive before"),
        pytest.param((*GENUINE, RELAXED), id="another policy since"),
        pytest.param((RELAXED, *GENUINE), id="another policy before"),
        pytest.param((*GENUINE, ("selinux-state", STATE_61.encode())), id="a state not named"),
        pytest.param((*GENUINE, ("selinux-other", b"1")), id="something else of SELinux's"),
        pytest.param(
            (LOADED, RESUMED, STATE, ("selinux-state", POLICY[1])), id="the policy as a state"
        ),
    ],
)
def test_048_what_does_not_show_that_the_tpm_is_confined(
    records: tuple[tuple[str, bytes], ...],
) -> None:
    """All of it is known, so that the node is accepted."""
    assert reached(trusting(sealed_node(records), known=records)) == "L3"


@pytest.mark.attack(number=18, attacker=ROOT, asset=LIST)
@pytest.mark.parametrize("late", [(STATE, POLICY), (STATE,), (POLICY,)])
def test_018_records_that_somebody_may_have_invented(
    late: tuple[tuple[str, bytes], ...],
) -> None:
    """Once something of the disk runs, whoever can open the TPM extends it as he likes."""
    node = sealed_node(tuple(one for one in GENUINE if one not in late))
    for name, data in late:
        node.measure_buffer(name, data)
    assert reached(trusting(node)) == "L3"


@pytest.mark.attack(number=18, attacker=ROOT, asset=LIST)
def test_018_a_known_program_that_ran_before() -> None:
    """A judged initramfs that goes on where the disk has no policy lets it: `python3 -c`, say."""
    node = sealed_node()
    early = make_record("/usr/lib/systemd/systemd", sha256(SYSTEM_FILES["usr/lib/systemd/systemd"]))
    for place, expected in ((2, "L3"), (5, "L3"), (6, "L4")):
        node.relist([*node.records[:place], early, *node.records[place:]])
        assert reached(trusting(node)) == expected
        node.relist([one for one in node.records if one is not early])


@pytest.mark.attack(number=48, attacker=ROOT, asset=LIST)
@pytest.mark.parametrize("record", [PERMISSIVE, RELAXED, LINEAR, REMOVED])
def test_048_what_nobody_names_is_unknown(record: tuple[str, bytes]) -> None:
    node = sealed_node()
    verifier = trusting(node)
    assert reached(verifier) == "L4"
    node.measure_buffer(*record)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=48, attacker=ROOT, asset=LIST)
def test_048_a_process_that_was_sealed_falls_when_selinux_is_relaxed() -> None:
    node = sealed_node()
    verifier = trusting(node, known=(PERMISSIVE,))
    process = sealed_process(node)
    assert reached(verifier, process) == "L4"
    for record in (PERMISSIVE, STATE):  # and enforcing again, which leaves no second record
        node.measure_buffer(*record)
        verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
        [one] = verdict.processes
        assert isinstance(one, Accepted)
        assert one.level == "L3"
        assert any("SELinux" in lack for lack in one.lacks)


@pytest.mark.attack(number=21, attacker=ROOT, asset=LIST)
@pytest.mark.parametrize("hidden", [PERMISSIVE, LINEAR])
def test_021_critical_data_under_another_templates_name(hidden: tuple[str, bytes]) -> None:
    """No hash covers the name of a template, and one with a signature has the same form."""
    node = sealed_node((*GENUINE, hidden))
    verifier = trusting(node, known=(hidden,))
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([sealed_process(node)]))
    records = [
        replace(one, template="ima-sig") if hidden[1] in one.data else one for one in node.records
    ]
    assert records != node.records
    verdict = verifier.judge(replace(evidence, records=_encoded(records)))
    [one] = verdict.processes
    assert isinstance(one, Accepted)
    assert one.level == ("L3" if hidden is PERMISSIVE else "lab")


def _encoded(records: list[Record]) -> bytes:
    return b"".join(one.encode() for one in records)


def test_a_file_with_the_name_of_critical_data_is_not_known_for_it() -> None:
    """Its bytes are those of a named state, and its path is what whoever ran it made of it."""
    node = sealed_node((LOADED, RESUMED))
    data = encode_template(
        "ima-sig", algorithm="sha256", digest=sha256(STATE[1]), path=STATE[0].encode()
    )
    template_hash = hashlib.sha1(data, usedforsecurity=False).digest()
    record = Record(register=10, template_hash=template_hash, template="ima-sig", data=data)
    node.append(record)
    verifier = trusting(node)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


def test_whoever_vouches_vouches_for_all_of_it() -> None:
    """One has read the policy, another one knows the state: nobody knows both."""
    other = replace(CONFINEMENT, name="other", policies=(bytes(32),))
    third = confinement(STATE_61, name="third")
    node = sealed_node()
    assert reached(trusting(node, confinements=(other, third))) == "L3"


@pytest.mark.parametrize("kind", ["verities", "confinements"])
def test_values_that_count_on_other_nodes(kind: str) -> None:
    value = VERITY if kind == "verities" else CONFINEMENT
    elsewhere: dict[str, Any] = {kind: (replace(value, nodes=("build-8",)),)}
    node = sealed_node()
    verifier = trusting(node, **elsewhere)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    known = trusting(node, known=GENUINE, **elsewhere)
    assert reached(known) == ("lab" if kind == "verities" else "L3")


def test_values_that_are_withdrawn() -> None:
    """Where no set knows the records either, the node is refused."""
    node = sealed_node()
    verifier = trusting(node)
    process = sealed_process(node)
    assert reached(verifier, process) == "L4"
    verifier.policy = replace(trusting(node, confinements=()).policy, version=2)
    challenge = verifier.challenge()
    assert verifier.refusal(node.evidence(challenge, known=[process])) == {Reason.LIST_UNKNOWN}


# The disk


@pytest.mark.attack(number=73, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize(
    "records",
    [
        pytest.param((STATE, POLICY), id="no device"),
        pytest.param((LOADED, STATE, POLICY), id="never in force"),
        pytest.param((RESUMED, STATE, POLICY), id="never loaded"),
        pytest.param((RESUMED, LOADED, STATE, POLICY), id="in force before it was loaded"),
        pytest.param((*GENUINE, LINEAR), id="another table since"),
        pytest.param((*GENUINE, REMOVED), id="removed since"),
        pytest.param((LINEAR, *GENUINE), id="another table before"),
        pytest.param((*GENUINE, ("dm_device_resume", b"x")), id="another table in force"),
        pytest.param((*GENUINE, ("dm_table_load", TABLE_61.encode())), id="a table not named"),
    ],
)
def test_073_a_device_that_may_be_another(records: tuple[tuple[str, bytes], ...]) -> None:
    """Without a canary there is no level then, with one it is L3."""
    node = sealed_node(records)
    assert reached(trusting(node, known=records)) == "lab"
    verifier = trusting(node, known=records, workload={"needs_canary": True, "minimum": "L3"})
    process = sealed_process(node)
    verifier.judge(node.evidence(verifier.challenge()))
    challenge = verifier.challenge(canaries=(process.place,))
    [one] = verifier.judge(node.evidence(challenge, new=[process])).processes
    assert isinstance(one, Accepted)
    assert one.level == "L3"


@pytest.mark.attack(number=73, attacker=ROOT, asset=IDENTITY)
def test_073_a_library_that_lies_elsewhere() -> None:
    node = sealed_node()
    for index in (0, 1):
        process = sealed_process(node)
        files = list(process.look.files)
        files[index] = replace(files[index], device=0xFE00)
        elsewhere = process.looking(executable=files[0], files=tuple(files))
        assert reached(trusting(node), elsewhere) == "lab"


def test_two_devices() -> None:
    """A process may have files on both; a second boot by another kernel has other tables."""
    second = TABLE_612.replace("minor=0", "minor=1").replace("name=root", "name=more")
    value = verity(TABLE_612, second)
    resumed = value.tables[1].resumed()
    records = (*GENUINE, ("dm_table_load", second.encode()), ("dm_device_resume", resumed))
    node = sealed_node(records)
    process = sealed_process(node)
    files = (process.look.files[0], replace(process.look.files[1], device=DEVICE + 1))
    mixed = process.looking(executable=files[0], files=files)
    assert reached(trusting(node, verities=(value,)), mixed) == "L4"
    older = sealed_node((("dm_table_load", TABLE_61.encode()), *GENUINE[2:]))
    older.critical = (
        ("dm_table_load", TABLE_61.encode()),
        ("dm_device_resume", RESUMED_61.encode()),
        *GENUINE[2:],
    )
    older.reboot()
    assert reached(trusting(older, verities=(verity(TABLE_612, TABLE_61),))) == "L4"


@pytest.mark.attack(number=46, attacker=ROOT, asset=IDENTITY)
def test_046_without_a_canary_nothing_above_lab() -> None:
    """But on a device that nothing can be written to, whatever SELinux does."""
    node = sealed_node((LOADED, RESUMED))
    assert reached(trusting(node)) == "L3"
    assert reached(trusting(node), sealed_process(node, 0xFE00)) == "lab"
    stricter = trusting(node, workload={"minimum": "L1"})
    one = outcome(stricter, sealed_process(node, 0xFE00))
    assert reasons(one) == {Reason.PROCESS_LEVEL}


# What is read


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(f'"{TABLE_612}"', "", id="no table"),
        pytest.param(f'"{TABLE_612}"', f'"{TABLE_612}", "{TABLE_612}"', id="a table twice"),
        pytest.param("=verity", "=linear", id="another target"),
        pytest.param("_once=n", "_once=y", id="looked at once"),
        pytest.param("_once=n", "_once=n,verity_mode=ignore_corruption", id="logged only"),
        pytest.param("_once=n", "_once=n,verity_mode=logging", id="a mode nobody knows"),
        pytest.param("_once=n", "_once=n,verity_error_mode=x", id="an error mode nobody knows"),
        pytest.param("=sha256", "=sha1", id="a weak hash"),
        pytest.param(ROOT_DIGEST, ROOT_DIGEST[:40], id="a digest that is cut"),
        pytest.param("dm_version", "version", id="no table at all"),
        pytest.param("tables", "devices", id="another key"),
        pytest.param('verity"', 'verities"', id="another kind"),
        pytest.param('name = "appliance"', 'name = "appliance"\nnodes = []', id="on no node"),
        pytest.param("version = 1", "version = 2", id="another version"),
    ],
)
def test_a_verity_that_is_refused_when_it_is_read(old: str, new: str) -> None:
    text = verity_toml(TABLE_612)
    assert old in text
    assert _refusal(text.replace(old, new, 1)) == {Reason.POLICY_INVALID}


@pytest.mark.parametrize("mode", ["restart_on_corruption", "panic_on_corruption"])
def test_a_verity_that_ends_the_boot(mode: str) -> None:
    text = TABLE_612.replace("_once=n", f"_once=n,root_hash_sig_key_desc=k,verity_mode={mode}")
    assert verity(text).tables[0].mode == mode


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(f'"{STATE_612}"', "", id="no state"),
        pytest.param("enforcing=1", "enforcing=0", id="a permissive state"),
        pytest.param("initialized=1", "initialized=0", id="no policy loaded"),
        pytest.param("initialized=1;enforcing=1;", "", id="a state that says neither"),
        pytest.param("enforcing=1;", "enforcing=1;enforcing=0;", id="a state that says both"),
        pytest.param(f'"sha256:{POLICY_612}"', "", id="no policy"),
        pytest.param(POLICY_612, POLICY_612[:-2], id="a digest that is cut"),
        pytest.param("states", "state", id="another key"),
        pytest.param("version = 1", "version = true", id="another version"),
    ],
)
def test_a_confinement_that_is_refused_when_it_is_read(old: str, new: str) -> None:
    text = confinement_toml(STATE_612)
    assert old in text
    assert _refusal(text.replace(old, new, 1)) == {Reason.POLICY_INVALID}


def test_names_are_taken_once() -> None:
    node = sealed_node()
    with pytest.raises(Rejected):
        trusting(node, verities=(replace(VERITY, name=CONFINEMENT.name),))
    with pytest.raises(Rejected):
        trusting(node, confinements=(replace(CONFINEMENT, name="debian-12"),))


def _refusal(text: str) -> set[Reason]:
    with pytest.raises(Rejected) as refused:
        read_reference_value(text)
    return {one.reason for one in refused.value.findings}
