"""What the demo's programs print: words at the beginning of lines."""

import re


def has_ended(text: str) -> bool:
    """Say whether a program has said the last that it says by itself."""
    return any(line.startswith(("refused ", "answer ", "granted ")) for line in text.splitlines())


def reasons_in(text: str) -> tuple[str, ...]:
    """Return the reason codes of what was refused."""
    return tuple(re.findall(r"(?m)^refused (\S+)", text))


def line_after(text: str, start: str) -> str:
    """Return what follows `start` in the first line that starts so."""
    return next(line.removeprefix(start) for line in text.splitlines() if line.startswith(start))


def last_answer(text: str) -> tuple[int, str]:
    """Return the HTTP status and the body of the relying party's last answer."""
    lines = [line for line in text.splitlines() if line.startswith("answer ")]
    _, status, body = lines[-1].split(" ", 2)
    return int(status), body
