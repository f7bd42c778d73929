"""The program `attestor`: identity for the processes of this node."""
# ruff: noqa: PLC0415 - each command imports what it needs: `run` starts programs for people

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from attestor.config import DEFAULT_PATH, Config, Misconfigured
from attestor.failed import Failed, Misused, NotFirst

SOCKET = Path("/run/procseal/attestor.sock")

YES, NO, MALFORMED, COULD_NOT_TELL = 0, 1, 2, 3

EXIT = "exit status: 0 yes, 1 no, 2 malformed or misused, 3 could not tell (disk, network, TPM)"


def main(argv: list[str] | None = None) -> int:
    """Run the program; exit 0 yes, 1 no, 2 malformed or misused, 3 could not tell."""
    arguments = _parser().parse_args(argv)
    level = logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="attestor: %(message)s")
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except NotFirst as error:
        return _complain(error, NO)
    except (Misconfigured, Misused) as error:
        return _complain(error, MALFORMED)
    except (Failed, OSError, ValueError) as error:
        return _complain(error, COULD_NOT_TELL)


def _asking(command: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command that somebody else may refuse."""
    from credential import Malformed, Refused

    try:
        return command(arguments)
    except Refused as refused:
        _tell(refused.to_json(), "\n".join(one.lines() for one in refused.findings), arguments)
        return NO
    except Malformed as error:
        return _complain(error, MALFORMED)


def _complain(error: Exception, code: int) -> int:
    print(f"attestor: {error}", file=sys.stderr)
    return code


def _tell(value: object, text: str, arguments: argparse.Namespace) -> None:
    print(json.dumps(value, indent=2) if arguments.json else text)


Command = Callable[[argparse.Namespace], int]


class Commands:
    """Subcommands, with the flags that mean the same everywhere."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(self, name: str, help_: str, command: Command) -> argparse.ArgumentParser:
        """Add one."""
        one = self._commands.add_parser(name, help=help_, description=f"{help_}.", epilog=EXIT)
        one.add_argument(
            "--config", type=Path, default=DEFAULT_PATH, help=f"default: {DEFAULT_PATH}"
        )
        one.add_argument("--json", action="store_true", help="answer in JSON")
        one.add_argument("--quiet", action="store_true", help="say what is wrong, nothing else")
        one.set_defaults(command=command)
        return one

    def add_asking(self, name: str, help_: str, command: Command) -> argparse.ArgumentParser:
        """Add one that asks the attestor that runs."""
        one = self.add(name, help_, partial(_asking, command))
        one.add_argument(
            "--socket",
            type=Path,
            help=f"of the attestor; default: the configuration's, or {SOCKET}",
        )
        return one


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attestor", description=__doc__, epilog=EXIT)
    commands = Commands(parser)
    commands.add("check-node", "Say, link by link, what this machine could prove now", _check_node)
    commands.add("ek", "Print the hash of the endorsement key, for an inventory", _ek)
    commands.add("enrol", "Introduce this TPM to the verifier", partial(_asking, _enrol))
    _add_serve(commands)
    commands.add_asking("restart", "Have the attestor that runs hand over to a new one", _restart)
    _add_run(commands)
    commands.add_asking("status", "Say what the attestor that runs is doing", _status)
    commands.add("check-config", "Say whether the configuration can be used", _check_config)
    commands.add(
        "sample-config", "Print a configuration with every option and its default", _sample
    )
    return parser


def _add_serve(commands: Commands) -> None:
    serving = commands.add("serve", "Be the attestor of this node; enrols by itself", _serve)
    serving.add_argument(
        "--second-start",
        action="store_true",
        help="an attestor has run in this boot, and an operator will approve another",
    )
    serving.add_argument(
        "--successor",
        type=int,
        default=-1,
        metavar="N",
        help="descriptor of the attestor that hands over",
    )


def _add_run(commands: Commands) -> None:
    running = commands.add_asking("run", "Launch a program, tied to the attestor that runs", _run)
    running.add_argument("--user", default="", help="for root: run it as this user")
    running.add_argument(
        "--interpreter",
        default="",
        metavar="PYTHON",
        help="PROGRAM is a script of this interpreter's: it and its modules are looked at",
    )
    running.add_argument(
        "--env",
        action="append",
        metavar="NAME=VALUE",
        help="give it these variables and no others, instead of all of ours",
    )
    running.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="PATH",
        help="a file that it is to read: its digest goes into the program's record",
    )
    running.add_argument(
        "--job",
        default="",
        metavar="ID",
        help="as a step of this job, whose descriptor PROCSEAL_JOB_FD names: its controller has"
        " given it to us",
    )
    running.add_argument("argv", nargs="+", metavar="PROGRAM", help="-- PROGRAM ARGUMENTS...")


def _check_node(arguments: argparse.Namespace) -> int:
    from attestor.check_node import check_node

    checks = check_node(Config.load(arguments.config))
    lines = []
    for one in checks:
        lines.append(f"{'good' if one.is_good else 'lack'}  {one.link}  {one.name:<18} {one.found}")
        if not one.is_good:
            lines.append(f"         next: {one.next}")
    _tell([asdict(one) for one in checks], "\n".join(lines), arguments)
    return YES if all(one.is_good for one in checks) else NO


def _ek(arguments: argparse.Namespace) -> int:
    from attestor.enrolment import identify
    from attestor.tpm import Tpm

    config = Config.load(arguments.config)
    with Tpm(config.tcti, ek=config.ek_kind) as one:
        identity = identify(one)
    line = f"{identity.ek_hash} {config.node}"
    found = {
        "ek_hash": identity.ek_hash,
        "node": config.node,
        "has_certificate": bool(identity.ek_certificate),
        "allow_list_line": line,
    }
    text = line if arguments.quiet else f"{line}\n\nPaste this line into the verifier's allow-list."
    _tell(found, text, arguments)
    return YES


def _enrol(arguments: argparse.Namespace) -> int:
    import asyncio

    from attestor.client import Verifier
    from attestor.enrolment import enrol
    from attestor.tpm import Tpm
    from attestor.worker import Worker

    config = Config.load(arguments.config)

    async def ask() -> tuple[str, str, str]:
        verifier = Verifier(
            config.verifier, ca_file=str(config.ca_file), timeout_seconds=config.verifier_seconds
        )
        with Tpm(config.tcti, ek=config.ek_kind) as one:
            worker = Worker(one, "tpm")
            try:
                async with verifier:
                    enrolled = await enrol(config.node, verifier, worker)
            finally:
                worker.close()
        return enrolled.node, enrolled.status, enrolled.ek_hash

    node, became, ek_hash = asyncio.run(ask())
    text = f"{became}  {node}  EK {ek_hash}"
    if became != "enrolled":
        text += f"\n\nAn operator approves it: verifier node approve {node}"
    _tell({"node": node, "status": became, "ek_hash": ek_hash}, text, arguments)
    return YES if became == "enrolled" else NO


def _serve(arguments: argparse.Namespace) -> int:
    import socket

    from attestor.hand_over import Predecessor
    from attestor.peer import Kernel
    from attestor.serve import serve

    config = Config.load(arguments.config)
    predecessor = None
    if arguments.successor >= 0:
        predecessor = Predecessor(socket.socket(fileno=arguments.successor))
    serve(
        config,
        kernel=Kernel.find_out(),
        is_second_start=arguments.second_start,
        predecessor=predecessor,
    )
    return YES


def _restart(arguments: argparse.Namespace) -> int:
    from attestor.run import restart

    found = json.loads(restart(_socket(arguments)))
    _tell(found, f"handed over to instance {found['instance']}, pid {found['pid']}", arguments)
    return YES


def _run(arguments: argparse.Namespace) -> int:
    from attestor.run import run

    return run(
        _socket(arguments),
        arguments.argv,
        user=arguments.user,
        interpreter=arguments.interpreter,
        environment=arguments.env,
        files=arguments.file,
        job=arguments.job,
    )


def _socket(arguments: argparse.Namespace) -> Path:
    """Return where the attestor listens; its configuration may be for its own eyes only."""
    if arguments.socket is not None:
        return Path(arguments.socket)
    if arguments.config == DEFAULT_PATH and not os.access(DEFAULT_PATH, os.R_OK):
        return SOCKET
    return Config.load(arguments.config).socket


def _status(arguments: argparse.Namespace) -> int:
    from attestor.run import status

    found = json.loads(status(_socket(arguments)))
    operations = found["tpm_operations"]
    accepted = "accepted" if found["accepted"] else "not accepted"
    findings = ", ".join(found["findings"]) or "nothing wrong"
    lines = [
        f"node       {found['node']}, boot {found['boot']}",
        f"evidence   {accepted}, {found['rounds']} rounds; {findings}",
        f"verifier   {found['verifier']}, last answer {found['last_answer'] or 'none yet'}",
        f"next       in {found['next_round_seconds']} s",
        f"processes  {found['processes']}, peers by {found['peer_proof']}",
        f"canaries   {found['canaries']} in this boot",
        "TPM        " + ", ".join(f"{name} {count}" for name, count in sorted(operations.items())),
        *(
            f"  pid {one['pid']:<8} {one['level']:<4} {one['id']}, lease {one['lease_seconds']} s"
            for one in found["yours"]
        ),
    ]
    _tell(found, "\n".join(lines), arguments)
    return YES if found["accepted"] else NO


def _check_config(arguments: argparse.Namespace) -> int:
    from attestor.client import Verifier

    config = Config.load(arguments.config)
    if not config.ca_file.is_file():
        raise Misconfigured(f"ca_file: there is no {config.ca_file}")
    if not config.state.is_dir() and not config.state.parent.is_dir():
        raise Misconfigured(f"state: there is no directory {config.state.parent}")
    Verifier(config.verifier, ca_file=str(config.ca_file), timeout_seconds=1)
    _tell({"config": "good"}, f"{arguments.config}: good", arguments)
    return YES


def _sample(_: argparse.Namespace) -> int:
    from importlib.resources import files

    print(files("attestor").joinpath("sample.toml").read_text(encoding="utf-8"), end="")
    return YES


if __name__ == "__main__":
    sys.exit(main())
