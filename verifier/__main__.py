"""The command line: each subcommand turns its arguments into one call, and the answer into text.

Exit 0 yes, 1 no, 2 malformed or misused, 3 could not tell. No command prints a token.
"""
# ruff: noqa: PLC0415 - a command imports what it needs: asking a verifier needs no web server

import argparse
import asyncio
import base64
import json
import logging
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evidence import Malformed
from evidence.ima import LIST_HASHES
from verifier import client
from verifier.config import DEFAULT_PATH, Config, Misconfigured
from verifier.hints import next_step
from verifier.ledger import findings_json
from verifier.reasons import Rejected, printable

if TYPE_CHECKING:
    from verifier.case_tools import Rejudged

YES, NO, MISUSED, UNKNOWN = 0, 1, 2, 3

Arguments = argparse.Namespace
Run = Callable[[Arguments], int]


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        run: Run = arguments.run
        return run(arguments)
    except Rejected as rejected:
        verdict = {"verdict": "refused", "findings": findings_json(rejected.findings)}
        return _refused(verdict, is_json=arguments.json)
    except client.Refused as refused:
        _refused(refused.verdict, is_json=arguments.json)
        return MISUSED if refused.is_malformed else NO
    except (Malformed, Misconfigured) as error:
        print(f"verifier: {printable(str(error))}", file=sys.stderr)
        return MISUSED
    except BrokenPipeError:
        return UNKNOWN
    except (OSError, client.Unreachable) as error:
        print(f"verifier: {error}", file=sys.stderr)
        return UNKNOWN


# What is printed


def _refused(verdict: dict[str, Any], *, is_json: bool = False) -> int:
    """Print a refusal as DESIGN has it: the reason, then what, expected, found, next."""
    if is_json:
        print(json.dumps(verdict, indent=2))
        return NO
    for one in verdict["findings"]:
        print(f"refused  {one['reason']}")
        told = {**one, "next": one.get("next") or next_step(one["reason"])}
        for name in ("what", "expected", "found", "next"):
            if told.get(name):
                print(f"  {name:<9} {printable(told[name])}")
    return NO


def _tell(arguments: Arguments, answer: Any, *columns: str) -> int:  # noqa: ANN401 - JSON
    """Print an answer: JSON where that was asked for, else the columns of each row."""
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif not arguments.quiet:
        for row in answer if isinstance(answer, list) else [answer]:
            print("  ".join(printable(f"{row[name]}") for name in columns))
    return YES


def _say(arguments: Arguments, line: str) -> None:
    if not arguments.quiet:
        print(line, file=sys.stderr)


# Without a running verifier


def _init(arguments: Arguments) -> int:
    from verifier.init import Choices, initialise

    directory: Path = arguments.directory
    hosts = tuple(arguments.host or ("localhost", "127.0.0.1", socket.gethostname()))
    choices = Choices(
        directory=directory,
        state=arguments.state or directory / "state",
        trust_domain=arguments.trust_domain,
        issuer=arguments.issuer or f"https://{hosts[0]}:{arguments.port}",
        listen=arguments.listen,
        port=arguments.port,
        hosts=hosts,
    )
    files = initialise(choices, now=datetime.now(UTC))
    rows = [{"file": str(path)} for path in files]
    _tell(arguments, rows, "file")
    _say(arguments, f"next: verifier serve --config {files[0]}")
    return YES


def _ca_issue(arguments: Arguments) -> int:
    from verifier.init import issue_certificate

    hosts = tuple(arguments.host or (arguments.name,))
    target = arguments.to or arguments.dir
    now = datetime.now(UTC)
    files = issue_certificate(
        arguments.name, hosts, directory=arguments.dir, target=target, now=now
    )
    return _tell(arguments, [{"file": str(path)} for path in files], "file")


def _check_config(arguments: Arguments) -> int:
    from verifier.http import Doors

    config = Config.load(arguments.config)
    Doors.build(config).service.store.close()
    return _tell(arguments, {"config": str(arguments.config), "verdict": "ok"}, "config", "verdict")


def _serve(arguments: Arguments) -> int:
    from verifier.http import Doors, serve

    level = logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    doors = Doors.build(Config.load(arguments.config))

    def ready(url: str) -> None:
        print(f"verifier: listens on {url}", file=sys.stderr, flush=True)

    asyncio.run(serve(doors, ready=ready))
    return YES


def _appraise(arguments: Arguments) -> int:
    from verifier.case_tools import Rejudged

    rejudged = Rejudged.read(arguments.case, keys=arguments.keys)
    answer = rejudged.answer()
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif answer["findings"]:
        _refused(answer)
    else:
        _tell(arguments, answer, "verdict", "node", "judged")
        _tell(arguments, answer["processes"], "workload", "key", "reasons")
    if not answer["signer_known"]:
        _say(arguments, f"note: signed by key {answer['signer']}: compare it with --keys")
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
    """Return the time in an ISO date, UTC where it does not say; ValueError on anything else."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _reference_make(arguments: Arguments) -> int:
    from verifier.reference import encode_reference
    from verifier.reference_maker import make_from_packages, make_from_tree

    def progress(line: str) -> None:
        _say(arguments, line)

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
    _say(arguments, f"next: read it, then verifier boot-policy put {arguments.output or 'FILE'}")
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


# Over the operators' socket


def _ask(arguments: Arguments, verb: str, **given: object) -> Any:  # noqa: ANN401 - JSON
    path = arguments.socket or Config.load(arguments.config).socket
    return client.call(path, verb, **given)


def _node_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "node_list")
    return _tell(arguments, rows, "node", "status", "ek_hash", "accepted")


def _node_verb(verb: str, *columns: str) -> Run:
    def run(arguments: Arguments) -> int:
        return _tell(arguments, _ask(arguments, verb, node=arguments.node), *columns)

    return run


def _node_approve(arguments: Arguments) -> int:
    answer = _ask(arguments, "node_approve", node=arguments.node, ek_hash=arguments.ek or "")
    return _tell(arguments, answer, "node", "status")


def _node_approve_instance(arguments: Arguments) -> int:
    given = {"node": arguments.node, "instance": arguments.instance}
    return _tell(arguments, _ask(arguments, "node_approve_instance", **given), "node", "status")


def _put(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        answers = []
        for file in arguments.file:
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise Malformed(f"{file}: expected UTF-8") from error
            answers.append(_ask(arguments, "put", kind=kind, text=text))
        return _tell(arguments, answers, "kind", "name", "version", "revoked")

    return run


def _documents(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        rows = _ask(arguments, "documents", kind=kind)
        more = ("values",) if kind == "reference" else ()
        return _tell(arguments, rows, "name", "since_version", *more)

    return run


def _show(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        row = _ask(arguments, "document", kind=kind, name=arguments.name)
        if not arguments.json and not arguments.quiet:
            print(row["text"])
            return YES
        return _tell(arguments, row)

    return run


def _remove(kind: str) -> Run:
    def run(arguments: Arguments) -> int:
        answer = _ask(arguments, "remove", kind=kind, name=arguments.name)
        return _tell(arguments, answer, "kind", "name", "version", "revoked")

    return run


def _credential_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "credential_list", every=arguments.all)
    return _tell(arguments, rows, "jti", "workload", "node", "expires", "status", "cause")


def _credential_revoke(arguments: Arguments) -> int:
    answer = _ask(arguments, "credential_revoke", jti=arguments.jti)
    return _tell(arguments, answer, "jti", "workload", "was_valid")


def _relying_party_add(arguments: Arguments) -> int:
    given = {"name": arguments.name, "audience": arguments.audience}
    answer = _ask(arguments, "relying_party_add", **given, may_revoke=arguments.may_revoke)
    return _tell(arguments, answer, "name", "secret")


def _relying_party_list(arguments: Arguments) -> int:
    rows = _ask(arguments, "relying_party_list")
    return _tell(arguments, rows, "name", "audience", "may_revoke", "added")


def _relying_party_remove(arguments: Arguments) -> int:
    answer = _ask(arguments, "relying_party_remove", name=arguments.name)
    return _tell(arguments, answer, "name")


def _ledger_tail(arguments: Arguments) -> int:
    rows = _ask(arguments, "ledger_tail", most=arguments.lines)
    return _tell(arguments, rows, "seq", "time", "kind", "subject", "body")


def _ledger_evidence(arguments: Arguments) -> int:
    answer = _ask(arguments, "ledger_evidence", seq=arguments.seq)
    arguments.output.write_bytes(base64.b64decode(answer["case"]))
    _say(arguments, f"next: verifier explain {arguments.output}")
    return YES


def _status(arguments: Arguments) -> int:
    answer = _ask(arguments, "status")
    if arguments.json or arguments.quiet:
        return _tell(arguments, answer)
    for name, value in answer.items():
        print(f"{name:<15} {value}")
    return YES


# The parser


class _Commands:
    """Subcommands that all take the flags which mean the same everywhere."""

    def __init__(self, parser: argparse.ArgumentParser, shared: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(required=True, metavar="COMMAND")
        self._shared = shared

    def add(self, name: str, run: Run, help_: str) -> argparse.ArgumentParser:
        """Add a command."""
        parser = self._commands.add_parser(
            name, help=help_, description=help_, parents=[self._shared]
        )
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, help_: str) -> "_Commands":
        """Add a command that has commands of its own."""
        parser = self._commands.add_parser(name, help=help_, description=help_)
        return _Commands(parser, self._shared)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verifier",
        description="Judges nodes and their processes, and issues credentials.",
        epilog="Exit 0 yes, 1 no, 2 malformed or misused, 3 could not tell.",
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE")
    shared.add_argument("--socket", type=Path, metavar="PATH", help="operators' socket")
    shared.add_argument("--json", action="store_true", help="answer in JSON")
    shared.add_argument("--quiet", action="store_true", help="say nothing but refusals")
    commands = _Commands(parser, shared)
    _add_server(commands)
    _add_nodes(commands.group("node", "which machines there are"))
    _add_policy(commands)
    _add_records(commands)
    _add_files(commands)
    return parser


def _add_server(commands: _Commands) -> None:
    init = commands.add("init", _init, "make keys, a CA and a configuration")
    init.add_argument("directory", type=Path, metavar="DIR")
    init.add_argument("--state", type=Path, metavar="DIR", help="default: state in DIR")
    init.add_argument("--trust-domain", default="example.org", metavar="NAME")
    init.add_argument("--issuer", metavar="URL", help="default: https, the first host, the port")
    init.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS")
    init.add_argument("--port", type=int, default=8443)
    init.add_argument("--host", action="append", metavar="NAME", help="of the certificate")
    authority = commands.group("ca", "TLS certificates by the CA that `init` made")
    issue = authority.add("issue", _ca_issue, "make a TLS server's key and certificate")
    issue.add_argument("name")
    issue.add_argument("--dir", type=Path, required=True, metavar="DIR", help="where the CA is")
    issue.add_argument("--to", type=Path, metavar="DIR", help="default: where the CA is")
    issue.add_argument("--host", action="append", metavar="NAME", help="default: the name")
    commands.add("check-config", _check_config, "say whether `serve` would start")
    commands.add("serve", _serve, "serve until SIGTERM")
    commands.add("status", _status, "what there is, in numbers")


def _add_nodes(nodes: _Commands) -> None:
    nodes.add("list", _node_list, "list the nodes")
    approve = nodes.add("approve", _node_approve, "approve the EK of a pending node")
    approve.add_argument("node")
    approve.add_argument("--ek", metavar="HASH", help="only if its EK has this hash")
    remove = _node_verb("node_remove", "node", "status")
    forget = _node_verb("node_forget", "node")
    nodes.add("remove", remove, "remove a node; its name stays its TPM's").add_argument("node")
    nodes.add("forget", forget, "free the name and TPM of a removed node").add_argument("node")
    instance = nodes.add(
        "approve-instance", _node_approve_instance, "approve a later start of its attestor"
    )
    instance.add_argument("node")
    instance.add_argument("instance", help="SHA-256 of its instance key, hexadecimal")


def _add_policy(commands: _Commands) -> None:
    kinds = {
        "workload": "who may have which identity",
        "reference": "digests and signers that are accepted",
        "kernel-policy": "IMA policies that are accepted",
        "boot-policy": "how machines may boot",
    }
    groups = {kind: commands.group(kind, help_) for kind, help_ in kinds.items()}
    for kind, group in groups.items():
        put = group.add("put", _put(kind), f"store a {kind}, in the place of the last of its name")
        put.add_argument("file", type=Path, nargs="+")
        group.add("list", _documents(kind), f"list each {kind}")
        group.add("show", _show(kind), f"print a {kind}").add_argument("name")
        group.add("remove", _remove(kind), f"withdraw a {kind}").add_argument("name")
    make = groups["reference"].add("make", _reference_make, "make a reference set from good files")
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
    _add_boot_policy_make(groups["boot-policy"])


def _add_boot_policy_make(group: _Commands) -> None:
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


def _add_records(commands: _Commands) -> None:
    credentials = commands.group("credential", "what has been issued")
    listing = credentials.add("list", _credential_list, "list the tokens that have not expired")
    listing.add_argument("--all", action="store_true", help="every one that was ever issued")
    revoke = credentials.add("revoke", _credential_revoke, "end the credential of a token")
    revoke.add_argument("jti")
    parties = commands.group("relying-party", "who may ask what became of a token")
    add = parties.add("add", _relying_party_add, "register one and print its secret, once")
    add.add_argument("name")
    add.add_argument("audience", help="the one whose tokens it may ask about")
    add.add_argument("--may-revoke", action="store_true", help="and end")
    parties.add("list", _relying_party_list, "list them")
    remove = parties.add("remove", _relying_party_remove, "answer one no longer")
    remove.add_argument("name")
    ledger = commands.group("ledger", "every decision, issue and revocation")
    tail = ledger.add("tail", _ledger_tail, "print the last rows")
    tail.add_argument("-n", "--lines", type=int, default=20)
    kept = ledger.add("evidence", _ledger_evidence, "write what a decision was made from")
    kept.add_argument("seq", type=int)
    kept.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
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


def _add_files(commands: _Commands) -> None:
    events = commands.add("check-eventlog", _check_event_log, "replay a boot event log")
    events.add_argument("log", type=Path, help="binary_bios_measurements, or a copy of it")
    events.add_argument(
        "--policy", type=Path, metavar="FILE", help="a boot policy that the boot has to fit"
    )
    check = commands.add("check-log", _check_log, "say what a measurement list in a file says")
    check.add_argument("log", type=Path, help="a copy of binary_runtime_measurements")
    check.add_argument(
        "--log-hash", choices=LIST_HASHES, help="of its template hashes; default: by name, or sha1"
    )
    check.add_argument("--ascii", action="store_true", help="a copy of ascii_runtime_measurements")
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
    quote.add_argument(
        "--ima-log", type=Path, metavar="FILE", help="a copy of binary_runtime_measurements"
    )
    quote.add_argument(
        "--log-hash", choices=LIST_HASHES, help="of its template hashes; default: by name, or sha1"
    )
    quote.add_argument(
        "--event-log", type=Path, metavar="FILE", help="binary_bios_measurements, or a copy of it"
    )
    quote.add_argument(
        "--policy", type=Path, metavar="FILE", help="TOML: version = 1, reject = [reasons]"
    )
    quote.add_argument(
        "--ak-attributes-unchecked",
        action="store_true",
        help="take a key as PEM, which does not say what it may sign",
    )
    quote.add_argument(
        "--allow-sha1", action="store_true", help="take signatures by SHA-1, and that bank alone"
    )
    quote.add_argument(
        "--padded-sha1",
        action="store_true",
        help="take larger banks that were extended with SHA-1 and zeros, as before Linux 5.8",
    )
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


if __name__ == "__main__":
    sys.exit(main())
