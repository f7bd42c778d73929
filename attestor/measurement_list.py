"""Reading the kernel's measurement list from a record on, without reading it all each time."""

import errno
import os
import time

from attestor.failed import Failed
from evidence import ima

PATH = "/sys/kernel/security/ima/binary_runtime_measurements"
READ_BYTES = 1 << 20
BUSY_TRIES = 20
BUSY_SECONDS = 0.05
"""Linux 7.2 gives the list to one reader at a time; others get EBUSY."""


class ListUnreadable(Failed):
    """The list has no such record, or cannot be read at all."""


class MeasurementList:
    """A list that only grows; where its last records start is remembered."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._known = (0, 0)
        """Index of a record, and the offset at which it starts."""

    def records_from(self, first: int) -> bytes:
        """Return the records from index `first` to the end of the list, as the kernel has them."""
        index, offset = self._known if self._known[0] <= first else (0, 0)
        data = self._read(offset)
        start = 0
        end = 0
        for record in ima.read_records(data):
            if index == first:
                start = end
            end += len(record.encode())
            index += 1
        if index < first:
            raise ListUnreadable(f"expected a record {first}, the list has {index}")
        if index == first:
            start = end
        self._known = (first, offset + start)
        return data[start:]

    def _read(self, offset: int) -> bytes:
        descriptor = self._open()
        try:
            parts = []
            while part := os.pread(descriptor, READ_BYTES, offset):
                parts.append(part)
                offset += len(part)
            return b"".join(parts)
        except OSError as error:
            raise ListUnreadable(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        for _ in range(BUSY_TRIES):
            try:
                return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise ListUnreadable(f"{self._path}: {error.strerror}") from error
            time.sleep(BUSY_SECONDS)
        raise ListUnreadable(f"{self._path}: busy")
