"""The node in a box from the command line: python -m swtpm COMMAND."""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swtpm import image, kernels
from swtpm.capture import capture, registers
from swtpm.firmware import Firmware
from swtpm.machine import VirtualMachine
from swtpm.manufacturer import HASHES, Manufacturer
from swtpm.programs import BUILD, Failed
from swtpm.terminal import interact

YES, NO, UNKNOWN = 0, 1, 3
"""Exit codes: it worked, the machine's command said no, could not tell."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words, argparse.Namespace(words=words))
    try:
        code: int = arguments.run(arguments)
    except Failed as failure:
        print(f"swtpm: {failure}", file=sys.stderr)
        return UNKNOWN
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m swtpm", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    setup = commands.add_parser("setup", help="fetch and make whatever is missing, once")
    setup.set_defaults(run=_set_up)
    list_ = commands.add_parser("kernels", help="say which kernels the package mirror has")
    list_.set_defaults(run=_kernels)
    fetch = commands.add_parser("fetch", help="fetch a kernel beyond those of the set-up")
    fetch.set_defaults(run=_fetch)
    boot = commands.add_parser("boot", help="boot, run commands, switch off")
    boot.set_defaults(run=_boot)
    capture_ = commands.add_parser("capture", help="boot, and keep what kernel and TPM say")
    capture_.add_argument("directory", type=Path, help="where the files go")
    capture_.set_defaults(run=_capture)
    shell = commands.add_parser("shell", help="boot, and give a root shell in the machine")
    shell.set_defaults(run=_shell)
    for command in (boot, capture_):
        command.add_argument(
            "--run", metavar="COMMAND", dest="commands", action="append", default=[],
            help="a command for the machine's shell; may be given more than once",
        )  # fmt: skip
    for command in (fetch, boot, capture_, shell):
        command.add_argument(
            "--kernel", metavar="NAME", default=kernels.DEFAULT,
            help=f"{', '.join(kernels.NAMES)}, or whatever `kernels` lists; by default %(default)s",
        )  # fmt: skip
    for command in (boot, capture_, shell):
        command.add_argument(
            "--firmware", action="store_true", help="through UEFI firmware with Secure Boot"
        )
        command.add_argument(
            "--ima-template", metavar="NAME",
            help="ima-ng, ima-sigv2, ..., or fields of your own: 'd-ngv2|n-ng'",
        )  # fmt: skip
    for command in (list_, boot, capture_):
        command.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _set_up(_: argparse.Namespace) -> int:
    image.prepare()
    Manufacturer.at(BUILD / "manufacturer")
    return YES


def _kernels(arguments: argparse.Namespace) -> int:
    rows = [
        {
            "name": one.name,
            "version": one.version,
            "suite": one.suite,
            "is_released": one.is_released,
            "is_fetched": one.is_fetched(),
        }
        for one in kernels.offers()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return YES
    for row in rows:
        notes = [] if row["is_released"] else ["unstable"]
        notes += ["fetched"] if row["is_fetched"] else []
        print(
            f"{row['name']:<20} {row['version']:<22} {row['suite']:<20} {', '.join(notes)}".rstrip()
        )
    return YES


def _fetch(arguments: argparse.Namespace) -> int:
    print(image.kernel(arguments.kernel).root)
    return YES


def _boot(arguments: argparse.Namespace) -> int:
    with _machine(arguments) as machine:
        results = [machine.run(command) for command in arguments.commands]
        if arguments.json:
            said = [{"code": one.code, "output": one.output} for one in results]
            print(json.dumps({"results": said, "pcrs": registers(machine)}))
        else:
            print(*(one.output for one in results), sep="\n")
    return NO if any(one.code for one in results) else YES


def _capture(arguments: argparse.Namespace) -> int:
    made_by = shlex.join(["python", "-m", "swtpm", *arguments.words])
    with _machine(arguments) as machine:
        for command in arguments.commands:
            machine.run(command).check()
        files = [str(path) for path in capture(machine, arguments.directory, made_by=made_by)]
    print(json.dumps(files) if arguments.json else "\n".join(files))
    return YES


def _shell(arguments: argparse.Namespace) -> int:
    with _machine(arguments) as machine:
        interact(machine)
    return YES


@contextmanager
def _machine(arguments: argparse.Namespace) -> Iterator[VirtualMachine]:
    """Boot a machine with a TPM made for it."""
    append = kernels.ima_template(arguments.ima_template) if arguments.ima_template else ""
    manufacturer = Manufacturer.at(BUILD / "manufacturer")
    with tempfile.TemporaryDirectory(prefix="procseal-tpm-") as state:
        tpm = manufacturer.make_tpm(Path(state), banks=tuple(HASHES))
        with VirtualMachine.boot(
            tpm=tpm,
            kernel=arguments.kernel,
            append=append,
            firmware=Firmware.at() if arguments.firmware else None,
        ) as machine:
            yield machine


if __name__ == "__main__":
    sys.exit(main())
