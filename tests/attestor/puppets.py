"""Processes that do what a test says: tests/attacks/programs/puppet.c, one line at a time."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from credential import base64url, crypto, local

SOURCES = Path(__file__).parent.parent / "attacks" / "programs"
SOURCE = SOURCES / "puppet.c"


def build(target: Path, *options: str, source: str = "puppet.c") -> Path:
    """Compile the puppet, or another program; static, so that it maps one file."""
    how = options or ("-static",)
    subprocess.run(
        ["gcc", "-O2", *how, "-Wall", "-Wextra", "-Werror", "-o", target, SOURCES / source],
        check=True,
    )
    return target


def packet(message: local.Message) -> str:
    """Return a message as the puppet's `send` and `give` take it."""
    return message.encode().decode().replace("\n", "|")


def received(answer: str) -> local.Message | None:
    """Return the message that a puppet has received, None where the attestor had hung up."""
    text = answer.removeprefix("received ")
    assert text != answer, answer
    return local.decode(text.replace("|", "\n").encode()) if text else None


def nonce_of(message: local.Message | None) -> str:
    """Return the nonce that a message has to be."""
    assert isinstance(message, local.Nonce), message
    return message.nonce


CHANNEL = 3
"""PROCSEAL_FD of a launched program."""


class Puppet:
    """A running puppet, whatever it runs on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kill it."""
        raise NotImplementedError

    def tell(self, line: str) -> None:
        """Tell it something and do not wait for the answer."""
        raise NotImplementedError

    def hear(self) -> str:
        """Return the next line that it says."""
        raise NotImplementedError

    def say(self, line: str) -> str:
        """Tell it something, and return what it answers."""
        self.tell(line)
        return self.hear()

    def do(self, line: str) -> None:
        """Tell it something that has to succeed."""
        answer = self.say(line)
        assert answer == "done", answer

    # The attestor's protocol: docs/protocol.md, section 2

    def receive(self) -> local.Message | None:
        """Return the next message, or None where the attestor has hung up."""
        return received(self.say("receive"))

    def exchange(self, line: str) -> local.Message | None:
        """Tell it something that has to succeed, and return the message that comes next."""
        self.do(line)
        return self.receive()

    def expect(self, kind: type[local.Message]) -> Any:  # noqa: ANN401
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def connect(self, socket: Path) -> None:
        """Connect to the attestor."""
        self.do(f"connect {socket}")

    def meet(self, socket: Path) -> str:
        """Connect, and return the nonce that comes after the first look."""
        return nonce_of(self.exchange(f"connect {socket}"))

    def obtain(self, socket: Path, id_: str = "", **members: Any) -> local.Message | None:  # noqa: ANN401
        """Do what an honest program does, and return the answer."""
        return self.answer(self.meet(socket), id_, **members)

    def obtain_with_key(
        self,
        socket: Path,
        id_: str,
        key: crypto.PrivateKey,
        **members: Any,  # noqa: ANN401
    ) -> local.Message | None:
        """Obtain as a process that has made a key of its own; `members` say otherwise."""
        nonce = self.meet(socket)
        signature = crypto.sign(key, local.use_key_statement(nonce))
        shown = {
            "proof_key": "process",
            "use_key": base64url.encode(crypto.point_of(key)),
            "signature": base64url.encode(signature),
        }
        return self.answer(nonce, id_, **(shown | members))

    def answer(
        self,
        nonce: str,
        id_: str = "",
        how: str = "give",
        **members: Any,  # noqa: ANN401
    ) -> local.Message | None:
        """Answer the nonce and return what the attestor says to it."""
        return self.exchange(f"{how} {packet(local.Obtain(nonce=nonce, id=id_, **members))}")

    def prove(
        self, audience: str, url: str = "", how: str = "send", **members: str
    ) -> local.Message | None:
        """Ask for a proof."""
        asked = local.Prove(
            audience=audience, method="POST", url=url or f"{audience}/post", **members
        )
        return self.exchange(f"{how} {packet(asked)}")

    def open_job(self, name: str, how: str = "send") -> local.Message | None:
        """Ask for a job, and keep the descriptor that comes with the answer."""
        self.do(f"{how} {packet(local.Job(name=name))}")
        return self.receive()


class LocalPuppet(Puppet):
    """A puppet on this machine."""

    def __init__(
        self,
        path: Path | str,
        *,
        uid: int,
        arguments: Sequence[str] = (),
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            user=uid, group=uid, extra_groups=[], cwd="/", **options,
        )  # fmt: skip
        assert self.hear() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")


class BornConnected(Puppet):
    """A puppet that the attestor has launched."""

    def connect(self, socket: Path) -> None:
        """Do nothing."""

    def meet(self, socket: Path) -> str:  # noqa: ARG002
        """Return the nonce, which comes by itself."""
        return nonce_of(self.receive())


class Launched(BornConnected, LocalPuppet):
    """A puppet that the attestor launched; what is talked to is `attestor run`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        uid: int,
        directory: Path,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            user=uid, group=uid, extra_groups=[], cwd=directory, **options,
        )  # fmt: skip
        assert self.hear() == "ready"
        self.do(f"use {CHANNEL}")

    def end(self) -> None:
        """Let it end by itself: at the end of its input."""
        self.process.communicate(timeout=60)


def reasons(message: local.Message | None) -> list[str]:
    """Return the reason codes of a refusal."""
    assert isinstance(message, local.Refusal), message
    return [str(one.reason) for one in message.findings]


__all__ = [
    "BornConnected",
    "Launched",
    "LocalPuppet",
    "Puppet",
    "build",
    "nonce_of",
    "packet",
    "reasons",
    "received",
]
