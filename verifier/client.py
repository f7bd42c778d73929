"""The operators' end of the verifier's UNIX socket: one call, one answer. Needs no library."""

import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

CALL_SECONDS = 120


class Refused(Exception):
    """The verifier says no, and why."""

    def __init__(self, verdict: dict[str, Any]) -> None:
        self.verdict = verdict
        super().__init__("refused")

    @property
    def is_malformed(self) -> bool:
        """Whether what was asked made no sense, rather than being answered with no."""
        return any(one["reason"].startswith("malformed.") for one in self.verdict["findings"])


class Unreachable(Exception):
    """There was no answer, or one that says nothing."""


class _UnixConnection(HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(path: Path, verb: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Return what the verifier whose operators' socket is `path` answers."""
    connection = _UnixConnection(path)
    try:
        body = json.dumps(arguments).encode()
        connection.request("POST", f"/{verb}", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise Unreachable(f"{path}: {error}; does `verifier serve` run?") from error
    finally:
        connection.close()
    if response.status == 200:  # noqa: PLR2004 - OK
        return answer
    if answer.get("verdict") == "refused":
        raise Refused(answer)
    raise Unreachable(f"{path}: the verifier could not tell; its log says why")
