"""The command line: each subcommand turns its arguments into one call, and the answer into text.

Exit 0 yes, 1 no, 2 malformed or misused, 3 could not tell. No command prints a token.
"""

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path

from evidence import Malformed
from verifier import client
from verifier.commands import MISUSED, NO, UNKNOWN, Commands, Run, print_misuse, print_refusal
from verifier.config import DEFAULT_PATH, Misconfigured
from verifier.file_commands import add_files, add_judging, add_makers
from verifier.ledger import findings_json
from verifier.operator_commands import add_grants, add_nodes, add_policy, add_records, add_status
from verifier.reasons import Rejected, printable
from verifier.server_commands import add_server

NO_SUCH_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""The disk has told all that there is to know: another name should have been given."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        # Names may have letters that a terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        run: Run = arguments.run
        return run(arguments)
    except Rejected as rejected:
        verdict = {"verdict": "refused", "findings": findings_json(rejected.findings)}
        return print_refusal(verdict, is_json=arguments.json)
    except client.Refused as refused:
        print_refusal(refused.verdict, is_json=arguments.json)
        return MISUSED if refused.is_malformed else NO
    except (Malformed, Misconfigured, *NO_SUCH_FILE) as error:
        return print_misuse(_why(error), is_json=arguments.json)
    except BrokenPipeError:
        return UNKNOWN
    except (OSError, client.Unreachable) as error:
        print(f"verifier: {error}", file=sys.stderr)
        return UNKNOWN


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return printable(f"{error.filename}: {error.strerror}; is that its name?")
    return printable(str(error))


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
    commands = Commands(parser, shared)
    add_server(commands)
    add_status(commands)
    add_nodes(commands.group("node", "which machines there are"))
    add_grants(commands.group("grant", "what processes may do for a while"))
    groups = add_policy(commands)
    add_makers(groups["reference"], groups["boot-policy"])
    add_records(commands)
    add_judging(commands)
    add_files(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
