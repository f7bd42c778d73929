"""Critical data: what parts of the kernel say of themselves, in records of the template `ima-buf`.

A record has the event's name where others have a path. Source: Linux drivers/md/dm-ima.c,
drivers/md/dm-verity-target.c (STATUSTYPE_IMA) and security/selinux/ima.c, read at 6.1 and 6.12;
admin-guide/device-mapper/dm-ima.rst.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from evidence.malformed import Malformed

TABLE_LOADED = b"dm_table_load"
DEVICE_RESUMED = b"dm_device_resume"
"""From then on the table that was loaded is the device's."""
DEVICE_EVENTS = b"dm_"
"""How the names of all events of device-mapper begin."""

SELINUX_STATE = b"selinux-state"
SELINUX_POLICY = b"selinux-policy-hash"
"""The record holds the policy's digest, and not the policy."""
SELINUX_EVENTS = b"selinux"
"""How the names of all events of SELinux begin."""

_NAME = r"[A-Za-z0-9_.:+-]"
"""Of a device: what device-mapper writes without escapes, which are refused."""
_U32, _U64 = r"\d{1,10}", r"\d{1,20}"
"""Numbers of the kernel's: Python reads none of more than some thousand digits."""
_VERITY = re.compile(
    r"dm_version=(?P<version>\d+\.\d+\.\d+);"
    rf"name=(?P<name>{_NAME}+),uuid=(?P<uuid>{_NAME}*),"
    rf"major=(?P<major>{_U32}),minor=(?P<minor>{_U32}),minor_count=1,num_targets=1;"
    rf"target_index=0,target_begin=0,target_len=(?P<sectors>{_U64}),"
    r"target_name=verity,target_version=(?P<target_version>\d+\.\d+\.\d+),"
    rf"hash_failed=V,verity_version=(?P<verity_version>{_U32}),"
    r"data_device_name=(?P<data_device>\d+:\d+),hash_device_name=(?P<hash_device>\d+:\d+),"
    r"verity_algorithm=(?P<algorithm>[a-z0-9-]+),"
    r"root_digest=(?P<root_digest>[0-9a-f]+),salt=(?P<salt>-|[0-9a-f]+),"
    r"ignore_zero_blocks=(?P<ignores_zero_blocks>[yn]),"
    r"check_at_most_once=(?P<checks_once>[yn])"
    rf"(?:,root_hash_sig_key_desc=(?P<key>{_NAME}+))?"
    r"(?:,verity_mode=(?P<mode>[a-z_]+))?"
    r"(?:,verity_error_mode=(?P<error_mode>[a-z_]+))?;"
)
_SETTING = re.compile(r"([a-z0-9_]+)=([01])")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityTable:
    """What the kernel measures when the table of a dm-verity device is loaded, its only target."""

    version: str
    """Of device-mapper's own interface; it differs between kernels, as does `target_version`."""
    name: str
    uuid: str
    major: int
    minor: int
    """Of the device: of files on it, st_dev."""
    sectors: int
    """Of 512 bytes."""
    target_version: str
    verity_version: int
    data_device: str
    """MAJOR:MINOR, as is `hash_device`."""
    hash_device: str
    algorithm: str
    root_digest: str
    """Hexadecimal, as is `salt`: `-` for none."""
    salt: str
    ignores_zero_blocks: bool
    checks_once: bool
    """A block is not looked at again once it was good."""
    key: str
    """Description of the key that has signed the root digest; empty where none was asked for."""
    mode: str
    """What is done where a block is not what it should be; empty: reading it fails."""
    error_mode: str
    """The same where a block cannot be read."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the table in a record's buffer; raise Malformed on anything else."""
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed("expected the text of a device's table") from error
        match = _VERITY.fullmatch(text)
        if match is None:
            raise Malformed(f"expected the table of a dm-verity device, got {text[:80]!r}")
        values: dict[str, object] = {name: value or "" for name, value in match.groupdict().items()}
        numbers = {one.name: int(match[one.name]) for one in fields(cls) if one.type is int}
        flags = {one.name: match[one.name] == "y" for one in fields(cls) if one.type is bool}
        table = cls(**(values | numbers | flags))  # type: ignore[arg-type]
        if table.encode() != data:
            raise Malformed("expected numbers without leading zeros")
        return table

    def encode(self) -> bytes:
        """Return the buffer of the record `dm_table_load`."""
        more = {
            "root_hash_sig_key_desc": self.key,
            "verity_mode": self.mode,
            "verity_error_mode": self.error_mode,
        }
        target = {
            "target_index": "0",
            "target_begin": "0",
            "target_len": self.sectors,
            "target_name": "verity",
            "target_version": self.target_version,
            "hash_failed": "V",
            "verity_version": self.verity_version,
            "data_device_name": self.data_device,
            "hash_device_name": self.hash_device,
            "verity_algorithm": self.algorithm,
            "root_digest": self.root_digest,
            "salt": self.salt,
            "ignore_zero_blocks": "y" if self.ignores_zero_blocks else "n",
            "check_at_most_once": "y" if self.checks_once else "n",
            **{name: value for name, value in more.items() if value},
        }
        return (self._head() + _joined(target)).encode("ascii")

    def resumed(self) -> bytes:
        """Return the buffer of the record `dm_device_resume` by which the table gets into force."""
        loaded = hashlib.sha256(self.encode()).hexdigest()
        told = f"active_table_hash=sha256:{loaded};current_device_capacity={self.sectors};"
        return (self._head() + told).encode("ascii")

    @property
    def device(self) -> int:
        """st_dev of files on it: makedev() of glibc (bits/sysmacros.h)."""
        return (
            (self.minor & 0xFF)
            | (self.major & 0xFFF) << 8
            | (self.minor & ~0xFF) << 12
            | (self.major & ~0xFFF) << 32
        )

    def _head(self) -> str:
        device = {
            "name": self.name,
            "uuid": self.uuid,
            "major": self.major,
            "minor": self.minor,
            "minor_count": 1,
            "num_targets": 1,
        }
        return f"dm_version={self.version};{_joined(device)}"


def _joined(values: Mapping[str, object]) -> str:
    return ",".join(f"{name}={value}" for name, value in values.items()) + ";"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelinuxState:
    """What the kernel measures of SELinux's settings whenever one changes or a policy is loaded."""

    settings: tuple[tuple[str, bool], ...]
    """`initialized`, `enforcing`, `checkreqprot`, then the policy's capabilities."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the state in a record's buffer; raise Malformed on anything else."""
        text = data.decode("ascii", "replace")
        found = map(_SETTING.fullmatch, text.split(";"))
        state = cls(settings=tuple((one[1], one[2] == "1") for one in found if one))
        names = [name for name, _ in state.settings]
        if state.encode() != data or len(set(names)) != len(names):
            raise Malformed(f"expected the state of SELinux, got {text[:80]!r}")
        if names[:2] != ["initialized", "enforcing"]:
            raise Malformed("expected a state that begins with initialized and enforcing")
        return state

    def encode(self) -> bytes:
        """Return the buffer of the record `selinux-state`."""
        return "".join(f"{name}={value:d};" for name, value in self.settings).encode("ascii")

    @property
    def is_enforcing(self) -> bool:
        """Whether a policy is loaded, and what it denies is denied."""
        settings = dict(self.settings)
        return settings["initialized"] and settings["enforcing"]
