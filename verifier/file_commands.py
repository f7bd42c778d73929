"""Commands for people who have files: nothing is asked, and nothing is stored."""
# ruff: noqa: PLC0415 - a command imports what it needs: asking a verifier needs no web server

import json
import sys
from argparse import ArgumentTypeError
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.ima import LIST_HASHES
from verifier.commands import (
    MISUSED,
    NO,
    UNKNOWN,
    YES,
    Arguments,
    Commands,
    print_refusal,
    say,
    tell,
)

if TYPE_CHECKING:
    from verifier.case_tools import Rejudged

LIST_HELP = "a copy of binary_runtime_measurements"
BOOT_LOG_HELP = "binary_bios_measurements, or a copy of it"
LOG_HASH_HELP = "of its template hashes; default: by name, or sha1"


def add_makers(references: Commands, boot_policies: Commands) -> None:
    """Add `make` to the commands of two kinds of documents."""
    make = references.add("make", _reference_make, "make a reference set from good files")
    make.add_argument("name")
    source = make.add_mutually_exclusive_group(required=True)
    source.add_argument("--tree", type=Path, metavar="DIR", help="all regular files under DIR")
    source.add_argument("--packages", nargs="+", metavar="PKG", help="installed Debian packages")
    make.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="of packages")
    make.add_argument(
        "--buffer",
        action="append",
        default=[],
        metavar="LABEL=TEXT",
        help="data that the kernel measures by itself, such as kernel_version",
    )
    make.add_argument("-o", "--output", type=Path, metavar="FILE")
    _add_boot_policy_make(boot_policies)


def add_judging(commands: Commands) -> None:
    """Add appraise and explain."""
    judging = {
        "appraise": (_appraise, "judge a decision's evidence again, offline"),
        "explain": (_explain, "tell a decision link by link, in plain words"),
    }
    for name, (run, help_) in judging.items():
        command = commands.add(name, run, help_)
        command.add_argument("case", type=Path, help="what `ledger evidence` wrote")
        command.add_argument(
            "--keys",
            type=Path,
            metavar="FILE",
            help="what /v1/trust-domain answered: its keys only",
        )


def add_files(commands: Commands) -> None:
    """Add the tools for logs, quotes and certificates."""
    _add_check_event_log(commands)
    _add_check_log(commands)
    _add_check_quote(commands)
    _add_check_ek(commands)


def _add_check_event_log(commands: Commands) -> None:
    events = commands.add("check-eventlog", _check_event_log, "replay a boot event log")
    events.add_argument("log", type=Path, help=BOOT_LOG_HELP)
    events.add_argument(
        "--policy", type=Path, metavar="FILE", help="a boot policy that the boot has to fit"
    )


def _add_check_log(commands: Commands) -> None:
    check = commands.add("check-log", _check_log, "say what a measurement list in a file says")
    check.add_argument("log", type=Path, help=LIST_HELP)
    check.add_argument("--log-hash", choices=LIST_HASHES, help=LOG_HASH_HELP)
    check.add_argument("--ascii", action="store_true", help="a copy of ascii_runtime_measurements")


def _add_check_quote(commands: Commands) -> None:
    quote = commands.add("check-quote", _check_quote, "say whether a quote in files is genuine")
    paths = {
        "--message": "TPMS_ATTEST, as tpm2_quote -m writes it",
        "--signature": "TPMT_SIGNATURE, as tpm2_quote -s writes it",
        "--ak": "the key: TPM2B_PUBLIC, TPMT_PUBLIC, or PEM",
    }
    for name, help_ in paths.items():
        quote.add_argument(name, type=Path, required=True, metavar="FILE", help=help_)
    quote.add_argument("--nonce", required=True, metavar="HEX", help="what the TPM was asked for")
    quote.add_argument(
        "--pcr",
        action="append",
        default=[],
        metavar="BANK:N=HEX",
        help="a register's value, as sha256:7=5602...; can be repeated",
    )
    quote.add_argument("--ima-log", type=Path, metavar="FILE", help=LIST_HELP)
    quote.add_argument("--log-hash", choices=LIST_HASHES, help=LOG_HASH_HELP)
    quote.add_argument("--event-log", type=Path, metavar="FILE", help=BOOT_LOG_HELP)
    quote.add_argument(
        "--policy", type=Path, metavar="FILE", help="TOML: version = 1, reject = [reasons]"
    )
    tolerated = {
        "--ak-attributes-unchecked": "take a key as PEM, which does not say what it may sign",
        "--allow-sha1": "take signatures by SHA-1, and that bank alone",
        "--padded-sha1": (
            "take larger banks that were extended with SHA-1 and zeros, as before Linux 5.8"
        ),
    }
    for name, help_ in tolerated.items():
        quote.add_argument(name, action="store_true", help=help_)


def _add_check_ek(commands: Commands) -> None:
    endorsed = commands.add("check-ek", _check_ek, "judge an endorsement key's certificate")
    endorsed.add_argument("certificate", type=Path, metavar="CERT", help="DER, PEM or NV content")
    endorsed.add_argument(
        "--roots", type=Path, required=True, metavar="DIR", help="certificates that end a chain"
    )
    endorsed.add_argument("--intermediates", type=Path, metavar="DIR", help="those of CAs between")
    endorsed.add_argument("--at", type=_time, metavar="DATE", help="ISO date; default: now")
    endorsed.add_argument(
        "--allow-sha1", action="store_true", help="count signatures over SHA-1, of old chips"
    )


def _add_boot_policy_make(group: Commands) -> None:
    make = group.add("make", _boot_policy_make, "make a boot policy from boots known to be good")
    make.add_argument("--name", required=True)
    make.add_argument(
        "--event-log",
        action="append",
        type=Path,
        required=True,
        metavar="FILE",
        help="a copy of binary_bios_measurements; again for other boots that are as good",
    )
    options = {
        "--command-line": ("TEXT", "a kernel command line that is measured without its text"),
        "--phase": ("WORD", "what systemd-pcrphase extends register 11 with, in this order"),
        "--node": ("NAME", "the policy counts on this node; without it, on every node"),
    }
    for option, (metavar, help_) in options.items():
        make.add_argument(option, action="append", default=[], metavar=metavar, help=help_)
    make.add_argument("-o", "--output", type=Path, metavar="FILE")


def _appraise(arguments: Arguments) -> int:
    from verifier.case_tools import Rejudged

    rejudged = Rejudged.read(arguments.case, keys=arguments.keys)
    answer = rejudged.answer()
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif answer["findings"]:
        print_refusal(answer)
    else:
        tell(arguments, answer, "verdict", "node", "judged")
        tell(arguments, answer["processes"], "workload", "key", "reasons")
    if not answer["signer_known"]:
        say(arguments, f"note: signed by key {answer['signer']}: compare it with --keys")
    return _status_of(rejudged)


def _explain(arguments: Arguments) -> int:
    from verifier.case_tools import Rejudged, print_links

    rejudged = Rejudged.read(arguments.case, keys=arguments.keys)
    print_links(rejudged, is_json=arguments.json)
    return _status_of(rejudged)


def _status_of(rejudged: "Rejudged") -> int:
    """Return the exit status of a case, which must be what the ledger recorded."""
    if not rejudged.is_as_recorded:
        print("verifier: another verdict than the recorded one", file=sys.stderr)
        return UNKNOWN
    return {"accepted": YES, "refused": NO}.get(rejudged.outcome.verdict, MISUSED)


def _check_log(arguments: Arguments) -> int:
    from verifier.file_tools import check_measurement_list

    is_consistent = check_measurement_list(
        arguments.log,
        log_hash=arguments.log_hash,
        is_ascii=arguments.ascii,
        is_json=arguments.json,
        is_quiet=arguments.quiet,
    )
    return YES if is_consistent else NO


def _check_ek(arguments: Arguments) -> int:
    from verifier.check_ek import check_ek

    checked = check_ek(
        arguments.certificate,
        roots=arguments.roots,
        intermediates=arguments.intermediates,
        at=arguments.at or datetime.now(UTC),
        allow_sha1=arguments.allow_sha1,
    )
    if arguments.json:
        print(json.dumps(checked.answer(), indent=2))
    elif not arguments.quiet:
        print("\n".join(checked.lines()))
    elif not checked.is_accepted:
        print("\n".join(checked.finding_lines()))
    if checked.is_malformed:
        return MISUSED
    return YES if checked.is_accepted else NO


def _time(text: str) -> datetime:
    """Return the time in an ISO date, UTC where it does not say; misuse on anything else."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "expected an ISO date, such as 2026-11-30 or 2026-11-30T12:00:00+01:00"
        raise ArgumentTypeError(f"{expected}, got {text[:80]!r}") from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _reference_make(arguments: Arguments) -> int:
    from verifier.reference import encode_reference
    from verifier.reference_maker import make_from_packages, make_from_tree

    def progress(line: str) -> None:
        say(arguments, line)

    if arguments.tree is not None:
        made = make_from_tree(
            arguments.name, arguments.tree, progress=progress, buffers=arguments.buffer
        )
    else:
        made = make_from_packages(
            arguments.name,
            arguments.packages,
            root=arguments.root,
            progress=progress,
            buffers=arguments.buffer,
        )
    text = encode_reference(made)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    return YES


def _check_event_log(arguments: Arguments) -> int:
    from verifier.boot_tools import check_event_log

    is_good = check_event_log(
        arguments.log,
        policy_path=arguments.policy,
        is_json=arguments.json,
        is_quiet=arguments.quiet,
    )
    return YES if is_good else NO


def _boot_policy_make(arguments: Arguments) -> int:
    from verifier.boot_tools import make_boot_policy_text

    text = make_boot_policy_text(
        arguments.event_log,
        name=arguments.name,
        command_lines=arguments.command_line,
        phases=arguments.phase,
        nodes=arguments.node,
    )
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    say(arguments, f"next: read it, then verifier boot-policy put {arguments.output or 'FILE'}")
    return YES


def _check_quote(arguments: Arguments) -> int:
    from verifier.file_tools import GivenQuote, check_quote_files

    given = GivenQuote(
        message=arguments.message,
        signature=arguments.signature,
        ak=arguments.ak,
        nonce=arguments.nonce,
        registers=tuple(arguments.pcr),
        ima_log=arguments.ima_log,
        log_hash=arguments.log_hash,
        event_log=arguments.event_log,
        policy=arguments.policy,
        tolerates_unchecked_ak=arguments.ak_attributes_unchecked,
        tolerates_sha1=arguments.allow_sha1,
        tolerates_padded_sha1=arguments.padded_sha1,
    )
    is_genuine = check_quote_files(given, is_json=arguments.json, is_quiet=arguments.quiet)
    return YES if is_genuine else NO
