"""The boot's TCG event log, as evidence carries it: whole, or not at all."""

import logging

from evidence.event_log import MOST_LOG_BYTES

log = logging.getLogger("attestor")


def read_boot_log(path: str) -> bytes:
    """Return the log at a path; nothing where there is none, or one that nobody takes."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(MOST_LOG_BYTES + 1)
    except OSError as error:
        log.warning("no boot log: %s", error)
        return b""
    if len(data) > MOST_LOG_BYTES:
        log.warning("no boot log: %s has more than %d bytes", path, MOST_LOG_BYTES)
        return b""
    return data
