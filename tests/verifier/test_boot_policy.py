"""Boot policies: their form, how they are made from logs, and how a boot is judged by one.

What a quote has to do with it is in tests/attacks/test_boot.py.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.event_log import (
    ALG_SHA256,
    EFI_ACTION,
    EFI_BOOT_SERVICES_APPLICATION,
    EVENT_TAG,
    IPL,
    LAST_REGISTER,
    NO_ACTION,
    POST_CODE,
    SEPARATOR,
    Event,
    EventLog,
    SpecId,
)
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_boot import (
    COMMAND_LINE,
    GRUB_COMMAND_LINE,
    KERNEL,
    KEYS,
    LEAVING,
    boot_grub,
    boot_uki,
    firmware,
    grub,
    image,
    instead,
    load_options,
    log_of,
    make_event,
    section,
    secure_boot,
    tagged,
    variable,
    without,
)
from verifier import Reason, Rejected
from verifier.__main__ import main
from verifier.boot_events import Kind, command_line_of, event_label, kind_of
from verifier.boot_judgement import MOST_UNKNOWN, judge_boot
from verifier.boot_policy import JUDGEABLE_REGISTERS, encode_boot_policy, read_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.commands import MISUSED, NO, YES
from verifier.policy import BootPolicy, build_policy
from verifier.sound_log import demand_sound

Out = pytest.CaptureFixture[str]
Boot = Sequence[Event]

LAB = Path(__file__).resolve().parent.parent / "vectors" / "uki-6.12"
"""A boot of the lab's own machine, through firmware."""

UKI_POLICY = make_boot_policy("uki", [log_of(boot_uki())], command_lines=[COMMAND_LINE])
GRUB_POLICY = make_boot_policy("grub", [log_of(boot_grub())])


def why(boot: Boot, policy: BootPolicy) -> set[Reason]:
    """Return why the boot is not as the policy allows, or its log no log at all."""
    try:
        findings = judge_boot(demand_sound(log_of(boot)), policy)
    except Rejected as rejected:
        findings = rejected.findings
    return {one.reason for one in findings}


def and_also(*events: Event) -> list[Event]:
    """Return the good boot with these events behind it."""
    return [*boot_uki(), *events]


# The form


DOCUMENT = f"""\
version = 1
name = "uki-6.12"
secure_boot = "on"
command_lines = ["root=/dev/vda ro"]

[register.4]
"a kernel" = "sha256:{"1f" * 32}"
"""

_words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30)
_digests = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3, unique=True)
_tables = st.dictionaries(_words, _digests.map(tuple), min_size=1, max_size=3)
policies = st.builds(
    BootPolicy,
    name=st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True),
    secure_boot=st.booleans(),
    command_lines=st.lists(_words, min_size=1, max_size=3, unique=True).map(tuple),
    registers=st.dictionaries(st.sampled_from(JUDGEABLE_REGISTERS), _tables, min_size=1),
    phases=st.lists(st.from_regex(r"[a-z-]{1,9}", fullmatch=True), max_size=3, unique=True).map(
        tuple
    ),
    nodes=st.lists(st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), max_size=2, unique=True).map(
        tuple
    ),
    source=_words,
)


@given(policies)
def test_what_is_written_is_read(policy: BootPolicy) -> None:
    assert read_boot_policy(encode_boot_policy(policy)) == policy


def test_a_document() -> None:
    policy = read_boot_policy(DOCUMENT)
    assert (policy.secure_boot, policy.command_lines) == (True, ("root=/dev/vda ro",))
    assert policy.registers == {4: {"a kernel": (b"\x1f" * 32,)}}
    assert policy.counts_on("any")
    assert not read_boot_policy(DOCUMENT.replace('"on"', '"any"')).secure_boot


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("version = 1", "version = 2", id="another version"),
        pytest.param('name = "uki-6.12"', 'name = "UKI"', id="name"),
        pytest.param('secure_boot = "on"\n', "", id="nothing said of Secure Boot"),
        pytest.param('"on"', "true", id="secure boot of another type"),
        pytest.param('command_lines = ["root=/dev/vda ro"]', "", id="no command line"),
        pytest.param('["root=/dev/vda ro"]', "[]", id="none of several command lines"),
        pytest.param("root=/dev/vda ro", "a\\u0000b", id="command line with a NUL"),
        pytest.param('["root=/dev/vda ro"]', '["a", "a"]', id="command line twice"),
        pytest.param("register.4", "register.10", id="the kernel's register"),
        pytest.param("register.4", "register.15", id="the attestor's register"),
        pytest.param("register.4", "register.04", id="number of another form"),
        pytest.param("register.4", "register.4.more", id="a table in it"),
        pytest.param(f'"a kernel" = "sha256:{"1f" * 32}"', "", id="table without digest"),
        pytest.param("[register.4]", "[register]", id="digest of no register"),
        pytest.param('"a kernel"', '"a\\u0001"', id="label with a control character"),
        pytest.param("sha256:", "sha1:", id="another algorithm"),
        pytest.param("1f1f", "1F1F", id="digest in capitals"),
        pytest.param("version = 1", "version = 1\nnodes = []", id="no node at all"),
        pytest.param("version = 1", 'version = 1\nphases = ["a", "a"]', id="phase twice"),
        pytest.param("version = 1", "version = 1\nodd = 1", id="unknown key"),
    ],
)
def test_what_is_no_boot_policy(old: str, new: str) -> None:
    assert old in DOCUMENT
    with pytest.raises(Rejected) as rejection:
        read_boot_policy(DOCUMENT.replace(old, new))
    assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}


def policy_with(*boot_policies: BootPolicy) -> None:
    build_policy(
        version=1,
        trust_domain="example.org",
        sets=(),
        workloads=(),
        kernel_policies=(),
        boot_policies=boot_policies,
    )


def test_policies_that_do_not_fit_together() -> None:
    """Two of one name; a table for a register that the measurement list extends."""
    policy_with(UKI_POLICY, GRUB_POLICY)
    listed = replace(UKI_POLICY, registers={**UKI_POLICY.registers, 12: {"a": (bytes(32),)}})
    for wrong in ((UKI_POLICY, UKI_POLICY), (listed,)):
        with pytest.raises(Rejected) as rejection:
            policy_with(*wrong)
        assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}


# Judging


@pytest.mark.parametrize(
    ("boot", "policy"),
    [
        pytest.param(boot_uki(), UKI_POLICY, id="uki"),
        pytest.param(boot_grub(), GRUB_POLICY, id="grub"),
    ],
)
def test_the_boot_that_a_policy_was_made_from(boot: list[Event], policy: BootPolicy) -> None:
    assert why(boot, policy) == set()
    assert policy.secure_boot
    # Registers 1, 3, 5 and 6 are not judged unless the policy has a table for them.
    odd = make_event(1, 0xA, b"ACPI DATA", of=b"other tables")
    assert why([odd, *boot], policy) == set()
    closed = replace(
        policy, registers={**policy.registers, 1: {"acpi": (sha256(b"acpi").digest(),)}}
    )
    assert why(boot, closed) == set()
    assert why([odd, *boot], closed) == {Reason.BOOT_EVENT}
    # The order of the firmware's events in other registers is nobody's business.
    assert why([*boot[1:2], *boot[:1], *boot[2:]], policy) == set()
    # What no quote covers says nothing.
    assert why([make_event(17, IPL, b"launch"), *boot], policy) == set()


def change_keys(**keys: bytes) -> list[Event]:
    return [*firmware(keys={**KEYS, **keys}), *boot_uki()[len(firmware()) :]]


AUTHORITY = variable("db", b"our certificate", is_authority=True)

REFUSED: dict[str, tuple[list[Event], set[Reason]]] = {
    "nothing of it": ([make_event(0, POST_CODE, b"x")], {
        Reason.BOOT_FIRMWARE, Reason.BOOT_SECURE_BOOT, Reason.BOOT_SEPARATOR,
        Reason.BOOT_IMAGE_MISSING, Reason.BOOT_EXIT, Reason.BOOT_COMMAND_LINE_MISSING,
    }),
    "another command line": (
        boot_uki(COMMAND_LINE + " init=/bin/sh"), {Reason.BOOT_COMMAND_LINE, Reason.BOOT_IMAGE}
    ),
    "a command line of spaces": (
        boot_uki(COMMAND_LINE.replace(" ", "  ")), {Reason.BOOT_COMMAND_LINE, Reason.BOOT_IMAGE}
    ),
    "other load options than the image's": (
        instead(boot_uki(), load_options(COMMAND_LINE), load_options("init=/bin/sh")),
        {Reason.BOOT_COMMAND_LINE},
    ),
    "an override": ([*boot_uki(), make_event(12, IPL, "init=/bin/sh\0".encode("utf-16-le"))],
                    {Reason.BOOT_COMMAND_LINE}),
    "an image more": ([*boot_uki(), image(b"MZ odd", "\\odd.efi")], {Reason.BOOT_IMAGE}),
    "another image": (
        instead(boot_uki(), image(KERNEL, ""), image(b"MZ odd", "")), {Reason.BOOT_IMAGE}
    ),
    "a driver of a card": (
        [make_event(2, 0x8000_0004, b"", of=b"MZ card"), *boot_uki()], {Reason.BOOT_IMAGE}
    ),
    "another initramfs": (
        instead(boot_uki(), tagged("Linux initrd", b"initrd"), tagged("Linux initrd", b"odd")),
        {Reason.BOOT_EVENT},
    ),
    "a section more": ([*boot_uki(), *section(".dtb", b"x")], {Reason.BOOT_EVENT}),
    "other firmware": (
        [make_event(0, POST_CODE, b"x", of=b"y"), *boot_uki()], {Reason.BOOT_FIRMWARE}
    ),
    "secure boot off": (
        instead(boot_uki(), secure_boot(), secure_boot(b"\0")), {Reason.BOOT_SECURE_BOOT}
    ),
    "firmware without secure boot": (
        instead(boot_uki(), secure_boot(), secure_boot(b"")), {Reason.BOOT_SECURE_BOOT}
    ),
    "secure boot not measured": (without(boot_uki(), secure_boot()), {Reason.BOOT_SECURE_BOOT}),
    "secure boot measured too late": (
        [*without(boot_uki(), secure_boot()), secure_boot()], {Reason.BOOT_SECURE_BOOT}
    ),
    "secure boot on, then off": ([*boot_uki(), secure_boot(b"\0")], {Reason.BOOT_SECURE_BOOT}),
    "secure boot of another value": (
        [secure_boot(b"\2"), *boot_uki()], {Reason.BOOT_VARIABLE}
    ),
    "db changed": (change_keys(db=b"db, and another key"), {Reason.BOOT_VARIABLE}),
    "dbx of another day": (change_keys(dbx=b"dbx of 2020"), {Reason.BOOT_VARIABLE}),
    "PK of somebody": (change_keys(PK=b"another"), {Reason.BOOT_VARIABLE}),
    "another authority": (
        instead(boot_uki(), AUTHORITY, variable("db", b"a vendor's", is_authority=True)),
        {Reason.BOOT_AUTHORITY},
    ),
    "debug mode of the firmware": (
        [make_event(7, EFI_ACTION, b"UEFI Debug Mode"), *boot_uki()], {Reason.BOOT_EVENT}
    ),
    "no end of register 4": (
        without(boot_uki(), make_event(4, SEPARATOR, bytes(4))),
        {Reason.BOOT_SEPARATOR, Reason.BOOT_IMAGE_MISSING},
    ),
    "firmware ended by an error": (
        instead(
            boot_uki(), make_event(2, SEPARATOR, bytes(4)), make_event(2, SEPARATOR, b"\xff" * 4)
        ),
        {Reason.BOOT_SEPARATOR, Reason.BOOT_EVENT},
    ),
    "no image": (
        [one for one in boot_uki() if one.type != EFI_BOOT_SERVICES_APPLICATION],
        {Reason.BOOT_IMAGE_MISSING},
    ),
    "boot services not left": (without(boot_uki(), LEAVING[1]), {Reason.BOOT_EXIT}),
    "no command line": (
        [one for one in boot_uki() if one.register not in (9, 11)],
        {Reason.BOOT_COMMAND_LINE_MISSING},
    ),
    "an event in the kernel's register": (and_also(make_event(10, IPL, b"x")), {Reason.BOOT_EVENT}),
    "an event in the attestor's register": (
        [*boot_uki(), make_event(15, IPL, b"x")], {Reason.BOOT_EVENT}
    ),
    "an event in an unused register": (and_also(make_event(8, IPL, b"x")), {Reason.BOOT_EVENT}),
    "a key of the machine's owner": (
        and_also(make_event(14, IPL, b"MokList\0")), {Reason.BOOT_EVENT}
    ),
    "a known digest in another register": (
        [*boot_uki(), make_event(9, IPL, b"kernel", of=KERNEL)], {Reason.BOOT_EVENT}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_boots_that_the_policy_does_not_allow(name: str) -> None:
    boot, reasons = REFUSED[name]
    assert why(boot, UKI_POLICY) == reasons


@pytest.mark.parametrize(
    ("boot", "reasons"),
    [
        pytest.param(
            boot_grub(GRUB_COMMAND_LINE + " init=/bin/sh"),
            {Reason.BOOT_COMMAND_LINE, Reason.BOOT_EVENT},
            id="another command line",
        ),
        pytest.param(
            [*boot_grub(), grub(8, "grub_cmd: ", "chainloader /odd.efi")],
            {Reason.BOOT_EVENT},
            id="another command",
        ),
        pytest.param(
            instead(
                boot_grub(),
                grub(9, "", "/vmlinuz", of=KERNEL),
                grub(9, "", "/vmlinuz", of=b"MZ odd"),
            ),
            {Reason.BOOT_EVENT},
            id="another kernel under the same name",
        ),
        pytest.param(
            [*boot_grub(), make_event(14, IPL, b"MokList\0", of=b"one key more")],
            {Reason.BOOT_EVENT},
            id="a key of the owner more",
        ),
        pytest.param(
            [*boot_grub(), variable("SbatLevel", b"sbat,1,2021030218\n", is_authority=True)],
            {Reason.BOOT_AUTHORITY},
            id="an older SBAT level",
        ),
    ],
)
def test_boots_by_grub_that_the_policy_does_not_allow(
    boot: list[Event], reasons: set[Reason]
) -> None:
    assert why(boot, GRUB_POLICY) == reasons


def test_where_secure_boot_is_not_demanded() -> None:
    off = instead(boot_uki(), secure_boot(), secure_boot(b"\0"))
    policy = make_boot_policy("off", [log_of(off)], command_lines=[COMMAND_LINE])
    assert not policy.secure_boot
    assert why(off, policy) == why(boot_uki(), policy) == set()


def test_what_differs_of_a_command_line_is_told() -> None:
    """The words, not half a kilobyte of which one has changed; all of it where no word has."""
    (found,) = [
        one
        for one in judge_boot(
            demand_sound(log_of(boot_grub("/vmlinuz root=/dev/vda ro ima_hash=sha1 quiet"))),
            GRUB_POLICY,
        )
        if one.what.startswith("command line")
    ]
    assert (found.expected, found.found) == ("ima_hash=sha256", "ima_hash=sha1 quiet")
    swapped = "/vmlinuz ro root=/dev/vda ima_hash=sha256"
    (found,) = [
        one
        for one in judge_boot(demand_sound(log_of(boot_grub(swapped))), GRUB_POLICY)
        if one.what.startswith("command line")
    ]
    assert (found.expected, found.found) == (GRUB_COMMAND_LINE, swapped)


def test_an_unknown_digest_is_told_with_the_known_ones_of_its_name() -> None:
    (found,) = judge_boot(demand_sound(log_of(change_keys(db=b"odd"))), UKI_POLICY)
    (held,) = UKI_POLICY.registers[7]["db"]
    odd = dict(variable("db", b"odd").digests)[ALG_SHA256]
    assert (found.what, found.expected) == ("db, event 5 of register 7", f"sha256:{held.hex()}")
    assert found.found == f"sha256:{odd.hex()}"


def test_what_is_demanded_is_told_before_all_that_is_unknown() -> None:
    """A log full of unknown events: a few are told, the rest are counted."""
    junk = [grub(8, "kernel_cmdline: ", f"odd {number}") for number in range(2000)]
    boot = [*without(boot_uki(), secure_boot()), *junk]
    findings = judge_boot(demand_sound(log_of(boot)), UKI_POLICY)
    assert findings[0].reason is Reason.BOOT_SECURE_BOOT
    assert len(findings) == 1 + MOST_UNKNOWN + 1
    assert findings[-1].found == f"{2000 - MOST_UNKNOWN} more"


# Types and data are words


@pytest.mark.parametrize("type_", [IPL, POST_CODE, EVENT_TAG, EFI_BOOT_SERVICES_APPLICATION, 0x77])
@pytest.mark.parametrize("place", range(len(boot_uki())))
def test_another_type_makes_no_boot_good_or_bad(type_: int, place: int) -> None:
    """Not a known one bad, and not an unknown one good; `event-log.…` where a type has rules."""
    boot = boot_uki()
    boot[place] = replace(boot[place], type=type_)
    assert why(boot, UKI_POLICY) <= {Reason.EVENT_LOG_DIGEST}
    assert why(and_also(replace(image(b"MZ odd", "\\odd.efi"), type=type_)), UKI_POLICY)


def test_data_make_no_boot_good_or_bad() -> None:
    off = dict(secure_boot(b"\0").digests)
    spoofed = replace(secure_boot(b"\1"), digests=tuple(off.items()))
    found = why(instead(boot_uki(), secure_boot(), spoofed), UKI_POLICY)
    assert found == {Reason.EVENT_LOG_DIGEST}
    # As another type, of which nothing has to be right, it is what its digest says.
    relabelled = replace(spoofed, type=IPL)
    assert why(instead(boot_uki(), secure_boot(), relabelled), UKI_POLICY) == {
        Reason.BOOT_SECURE_BOOT
    }
    named = replace(image(b"MZ odd"), data=image(b"MZ odd").data.replace(b"B", b"C"))
    assert why([*boot_uki(), named], UKI_POLICY) == {Reason.BOOT_IMAGE}
    renamed = replace(image(KERNEL, ""), data=b"anything")
    assert why(instead(boot_uki(), image(KERNEL, ""), renamed), UKI_POLICY) == set()
    # A text that nothing has measured is not told as the command line.
    invented = replace(grub(8, "kernel_cmdline: ", "root=/dev/vda"), digests=image(b"x").digests)
    assert command_line_of(invented) is None
    assert why([*boot_uki(), invented], UKI_POLICY) == {Reason.BOOT_COMMAND_LINE}


events = st.builds(
    make_event,
    st.integers(0, LAST_REGISTER),
    st.sampled_from(
        [
            IPL,
            EVENT_TAG,
            POST_CODE,
            NO_ACTION,
            EFI_ACTION,
            0x77,
            *range(0x8000_0001, 0x8000_0010),
            0x8000_00E0,
        ]
    ),
    st.binary(max_size=80),
)


@given(events)
def test_any_event_has_a_name_that_can_be_stored(event: Event) -> None:
    name = event_label(event)
    assert name
    assert name.isprintable()
    kind_of(event)
    policy = replace(UKI_POLICY, registers={4: {name: (bytes(32),)}})
    assert read_boot_policy(encode_boot_policy(policy)) == policy


@given(st.binary(max_size=60), st.integers(0, 1 << 64))
def test_any_device_path(path: bytes, size: int) -> None:
    head = b"".join(number.to_bytes(8, "little") for number in (0, size % (1 << 64), 0, len(path)))
    assert event_label(make_event(4, EFI_BOOT_SERVICES_APPLICATION, head + path))


@pytest.mark.parametrize(
    ("event", "kind", "name"),
    [
        (secure_boot(), Kind.VARIABLE, "SecureBoot"),
        (AUTHORITY, Kind.AUTHORITY, "authority db our certificate"),
        (image(b"MZ"), Kind.IMAGE, "\\EFI\\BOOT\\BOOTX64.EFI"),
        (image(b"MZ", ""), Kind.IMAGE, "image of 2 bytes"),
        (section(".cmdline", b"x")[1], Kind.COMMAND_LINE, ".cmdline"),
        (load_options("x"), Kind.COMMAND_LINE, "LOADED_IMAGE::LoadOptions"),
        (tagged("Linux initrd", b"x"), Kind.OTHER, "Linux initrd"),
        (grub(8, "kernel_cmdline: ", "a\tb"), Kind.COMMAND_LINE, "kernel_cmdline: a\\tb"),
        (variable("dbx", bytes(1 << 15)), Kind.VARIABLE, "dbx"),
        (make_event(8, IPL, b"x" * (1 << 15)), Kind.OTHER, "type 0xd, 32768 bytes"),
        (firmware()[1], Kind.FIRMWARE, "firmware volume at 0x0, 0 bytes"),
        (make_event(7, SEPARATOR, bytes(4)), Kind.SEPARATOR, "type 0x4, 4 bytes"),
    ],
)
def test_what_events_are_about(event: Event, kind: Kind, name: str) -> None:
    assert (kind_of(event), event_label(event)) == (kind, name)


# Making


def test_several_boots_make_one_policy() -> None:
    other = instead(boot_uki(), tagged("Linux initrd", b"initrd"), tagged("Linux initrd", b"new"))
    logs = [log_of(boot_uki()), log_of(other)]
    policy = make_boot_policy("both", logs, command_lines=[COMMAND_LINE])
    assert why(boot_uki(), policy) == why(other, policy) == set()
    assert len(policy.registers[9]["Linux initrd"]) == 2


def test_a_line_of_which_the_log_has_only_the_digest_is_told() -> None:
    """Kept as text it can be read; the maker has what the log holds of it from the log."""
    boot = without(boot_grub(), grub(8, "kernel_cmdline: ", GRUB_COMMAND_LINE))
    with pytest.raises(Rejected) as rejection:
        make_boot_policy("x", [log_of(boot)])
    assert {one.reason for one in rejection.value.findings} == {Reason.BOOT_COMMAND_LINE_MISSING}
    made = make_boot_policy("x", [log_of(boot)], command_lines=[GRUB_COMMAND_LINE])
    assert made.command_lines == (GRUB_COMMAND_LINE,)
    assert "LOADED_IMAGE::LoadOptions" not in made.registers[9]


SHA1_LOG = EventLog(
    spec=None, events=tuple(replace(one, digests=one.digests[:1]) for one in boot_uki())
)
CCEL = log_of(boot_uki(), register=1)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        pytest.param(SHA1_LOG, Reason.BOOT_LOG_BANK, id="SHA-1 only"),
        pytest.param(CCEL, Reason.BOOT_LOG_KIND, id="of a confidential machine"),
        pytest.param(log_of([]), Reason.EVENT_LOG_EMPTY, id="empty"),
    ],
)
def test_logs_that_no_policy_is_made_from(log: EventLog, reason: Reason) -> None:
    with pytest.raises(Rejected) as rejection:
        make_boot_policy("x", [log])
    assert {one.reason for one in rejection.value.findings} == {reason}


# Boots of real machines


def read(path: Path) -> EventLog:
    return EventLog.decode(path.read_bytes())


def test_the_labs_own_boot() -> None:
    line = (LAB / "cmdline.txt").read_text().rstrip("\n")
    log = read(LAB / "eventlog.bin")
    policy = make_boot_policy("lab", [log], command_lines=[line])
    assert policy.secure_boot
    assert policy.command_lines == (line,)
    other = replace(policy, command_lines=(f"{line} init=/bin/sh",))
    found = {one.reason for one in judge_boot(demand_sound(log), other)}
    assert found == {Reason.BOOT_COMMAND_LINE}
    _check_mutations(log, policy)


ACCEPTED = (
    "go-attestation/coreos_36_shielded_vm_no_secure_boot_eventlog",
    "go-attestation/ubuntu_2104_shielded_vm_no_secure_boot_eventlog",
    "go-tpm-tools/eventlogs/confidential-gke-debug-251000_eventlog.bin",
    "go-tpm-tools/eventlogs/cos-101-amd-sev.bin",
    "go-tpm-tools/eventlogs/cos-85-amd-sev.bin",
    "go-tpm-tools/eventlogs/cos-93-amd-sev.bin",
    "go-tpm-tools/eventlogs/eventlogwithsp800155.bin",
    "go-tpm-tools/eventlogs/gdc-host.bin",
    "go-tpm-tools/eventlogs/rhel8-uefi.bin",
    "go-tpm-tools/eventlogs/ubuntu-1804-amd-sev.bin",
    "go-tpm-tools/eventlogs/ubuntu-2104-no-dbx.bin",
    "go-tpm-tools/eventlogs/ubuntu-2404-amd-sevsnp.bin",
    "ibmtss/amd635.log",
    "ibmtss/deb1.log",
    "ibmtss/deb2.log",
    "ibmtss/ubuntu1.log",
    "ibmtss/ubuntu3.log",
    "keylime/eventlogs/binary_bios_measurements-secureboot",
    "rust-keylime/uefi_log.bin",
    "tpm2-tools/event-moklisttrusted.bin",
)
"""Boots that have all that is demanded: GRUB with and without shim, of bare metal and clouds."""

NO_LINE, NO_EXIT = Reason.BOOT_COMMAND_LINE_MISSING, Reason.BOOT_EXIT
LACKING: dict[str, set[Reason]] = {
    "go-attestation/crypto_agile_eventlog": {NO_LINE, NO_EXIT},
    "go-attestation/ebs_event_missing_eventlog": {Reason.BOOT_LOG_BANK},
    "go-attestation/short_no_action_eventlog": {Reason.EVENT_LOG_EMPTY},
    "go-tpm-tools/eventlogs/arch-linux-workstation.bin": {NO_LINE, NO_EXIT},
    "go-tpm-tools/eventlogs/debian-10.bin": {Reason.BOOT_LOG_BANK},
    "go-tpm-tools/eventlogs/glinux-alex.bin": {NO_LINE, NO_EXIT},
    "hirs/eventlogs/TpmLog.bin": {NO_LINE, NO_EXIT},
    "ibmtss/dell1.log": {NO_LINE},
    "ibmtss/sm1.log": {NO_EXIT},
    "keylime/eventlogs/binary_bios_measurements": {NO_EXIT},
    "tpm2-tools/event-sd-boot-fedora37.bin": {Reason.BOOT_IMAGE_MISSING},
    "trustee/ccel/CCEL_data_grub": {Reason.BOOT_LOG_KIND},
}
"""Boots that lack something: no policy says of them that they are good. In ebs_event_missing the
bank is lacking too, so the test below gives it one."""


@needs_vectors
@pytest.mark.parametrize("name", ACCEPTED)
def test_a_policy_from_a_real_boot_accepts_it_and_no_mutation(name: str) -> None:
    log = read(VECTORS / name)
    _check_mutations(log, make_boot_policy("real", [log]))


def _check_mutations(log: EventLog, policy: BootPolicy) -> None:
    """Any digest changed in a judged register, and anything that must be there left out."""
    assert judge_boot(demand_sound(log), policy) == ()
    assert read_boot_policy(encode_boot_policy(policy)) == policy
    for place, event in enumerate(log.events):
        if not event.is_measured or event.register in (1, 3, 5, 6) or event.register > 14:
            continue
        digests = tuple((one, bytes(len(digest))) for one, digest in event.digests)
        changed = replace(event, digests=digests, type=0x77)
        mutated = replace(log, events=(*log.events[:place], changed, *log.events[place + 1 :]))
        reasons = {one.reason for one in judge_boot(demand_sound(mutated), policy)}
        assert reasons & {Reason.BOOT_EVENT, Reason.BOOT_FIRMWARE, Reason.BOOT_COMMAND_LINE}
    lacking: list[tuple[Callable[[Event], bool], Reason]] = [
        (lambda one: one.register == 4, Reason.BOOT_IMAGE_MISSING),
        (lambda one: one.register in (8, 9, 11, 12), Reason.BOOT_COMMAND_LINE_MISSING),
        (lambda one: one.type == EFI_ACTION and one.register == 5, Reason.BOOT_EXIT),
        (lambda one: one.type == SEPARATOR, Reason.BOOT_SEPARATOR),
    ]
    if policy.secure_boot:
        lacking.append((lambda one: one.register == 7, Reason.BOOT_SECURE_BOOT))
    for is_left_out, reason in lacking:
        kept = tuple(one for one in log.events if not is_left_out(one))
        found = judge_boot(demand_sound(replace(log, events=kept)), policy)
        assert reason in {one.reason for one in found}


@needs_vectors
@pytest.mark.parametrize("name", LACKING)
def test_no_policy_is_made_from_a_real_boot_that_lacks_something(name: str) -> None:
    with pytest.raises(Rejected) as rejection:
        make_boot_policy("real", [read(VECTORS / name)])
    assert {one.reason for one in rejection.value.findings} == LACKING[name]


@needs_vectors
def test_a_boot_that_never_left_boot_services() -> None:
    """The log is of SHA-1: here it is as if its TPM had had the other bank."""
    log = read(VECTORS / "go-attestation/ebs_event_missing_eventlog")
    spec = SpecId(
        register=0, digest=bytes(20), platform_class=0, minor=0, major=2, errata=0,
        pointer_size=2, algorithms=((ALG_SHA256, 32),), vendor=b"",
    )  # fmt: skip
    events_ = tuple(
        replace(one, digests=((ALG_SHA256, sha256(one.data).digest()),)) for one in log.events
    )
    line = "root=/dev/sda"
    with pytest.raises(Rejected) as rejection:
        make_boot_policy(
            "x",
            [EventLog(spec=spec, events=(*events_, grub(8, "kernel_cmdline: ", line)))],
        )
    assert Reason.BOOT_EXIT in {one.reason for one in rejection.value.findings}


@needs_vectors
def test_lines_that_grub_measured_twice_in_different_forms() -> None:
    """`LOADED_IMAGE::LoadOptions` of these boots is GRUB's line, a word longer, in UTF-16."""
    for name in ("gdc-host.bin", "ubuntu-2404-amd-sevsnp.bin"):
        policy = make_boot_policy("x", [read(VECTORS / "go-tpm-tools/eventlogs" / name)])
        assert len(policy.command_lines) == 1
        assert "LOADED_IMAGE::LoadOptions" not in policy.registers[9]


# The commands


def run(capsys: Out, *arguments: Any) -> tuple[int, str]:  # noqa: ANN401
    status = main([str(one) for one in arguments])
    return status, capsys.readouterr().out


def test_a_policy_by_command(tmp_path: Path, capsys: Out) -> None:
    log, policy = LAB / "eventlog.bin", tmp_path / "policy.toml"
    line = (LAB / "cmdline.txt").read_text().rstrip("\n")
    make = ["boot-policy", "make", "--name", "lab", "--event-log", log]
    status, _ = run(capsys, *make)
    assert status == NO
    more = ["--command-line", line, "--phase", "sysinit", "--node", "build-7"]
    status, text = run(capsys, *make, *more)
    assert status == YES
    made = read_boot_policy(text)
    assert (made.phases, made.nodes) == (("sysinit",), ("build-7",))
    assert run(capsys, *make, *more, "-o", policy) == (YES, "")
    assert policy.read_text() == text
    assert run(capsys, "boot-policy", "make", "--name", "L A B", *make[4:], *more)[0] == NO

    check = ["check-eventlog", log, "--policy", policy]
    assert run(capsys, *check)[0] == YES
    policy.write_text(text.replace("ima_hash=sha256", "ima_hash=sha1"))
    status, out = run(capsys, *check, "--json")
    assert status == NO
    answer = json.loads(out)
    found = [one["reason"] for one in answer["findings"]]
    assert found[:2] == [Reason.BOOT_COMMAND_LINE] * 2
    assert {*found[2:]} == {Reason.EVENT_LOG_DATA}, "notes: tags whose data are a name only"
    policy.write_text("version = 1")
    assert run(capsys, *check)[0] == MISUSED
    policy.write_bytes(b"\xff")
    assert run(capsys, *check)[0] == MISUSED
    (tmp_path / "sha1").write_bytes(SHA1_LOG.encode())
    policy.write_text(text)
    status, out = run(capsys, "check-eventlog", tmp_path / "sha1", "--policy", policy, "--quiet")
    assert (status, f"refused  {Reason.BOOT_LOG_BANK}" in out) == (NO, True)


def test_the_facts_of_a_log(tmp_path: Path, capsys: Out) -> None:
    path = tmp_path / "log"
    path.write_bytes(log_of(boot_grub()).encode())
    status, out = run(capsys, "check-eventlog", path, "--json")
    assert status == YES
    facts = json.loads(out)["facts"]
    assert [one["name"] for one in facts["variables"]] == ["SecureBoot", *KEYS]
    assert [one["name"] for one in facts["images"]][:2] == [
        "\\EFI\\debian\\shimx64.efi",
        "\\EFI\\debian\\grubx64.efi",
    ]
    assert [one["text"] for one in facts["command_lines"]] == [GRUB_COMMAND_LINE, None]
    assert len(facts["authorities"]) == 2
    shim = facts["images"][0]["digests"]["sha256"]
    assert shim == sha256(b"MZ shim").hexdigest()
