"""What the commands of the program `verifier` have in common: flags, exit statuses, answers."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from verifier.hints import next_step
from verifier.reasons import printable

YES, NO, MISUSED, UNKNOWN = 0, 1, 2, 3
"""Exit statuses."""

Arguments = argparse.Namespace
Run = Callable[[Arguments], int]


class Commands:
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

    def group(self, name: str, help_: str) -> "Commands":
        """Add a command that has commands of its own."""
        parser = self._commands.add_parser(name, help=help_, description=help_)
        return Commands(parser, self._shared)


def print_refusal(verdict: dict[str, Any], *, is_json: bool = False) -> int:
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


def print_misuse(why: str, *, is_json: bool) -> int:
    """Say that something is malformed or misused: on standard error, and in JSON as a verdict."""
    if is_json:
        finding = {"reason": "malformed", "detail": why}
        print(json.dumps({"verdict": "malformed", "findings": [finding]}, indent=2))
    print(f"verifier: {why}", file=sys.stderr)
    return MISUSED


def tell(arguments: Arguments, answer: Any, *columns: str) -> int:  # noqa: ANN401 - JSON
    """Print an answer: JSON where that was asked for, else the columns of each row."""
    if arguments.json:
        print(json.dumps(answer, indent=2))
    elif not arguments.quiet:
        for row in answer if isinstance(answer, list) else [answer]:
            print("  ".join(printable(f"{row[name]}") for name in columns))
    return YES


def say(arguments: Arguments, line: str) -> None:
    """Tell a person something that is no answer."""
    if not arguments.quiet:
        print(line, file=sys.stderr)
