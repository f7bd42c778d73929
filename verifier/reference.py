"""Reference values as TOML: sets, read and written here, and others, each with its kind.

    version = 1
    name = "debian-12"
    source = "packages of bookworm, 2026-11-02"   # optional, for people
    nodes = ["build-7"]                           # optional; without it, every node

    [files]
    "usr/bin/bash" = "sha256:…64 hexadecimal digits…"
    "etc/ld.so.cache" = ["sha256:…", "sha256:…"]

A path is relative to the root and a label only: the digest decides. A signer has a kind:

    version = 1
    kind = "signer"
    name = "vendor"
    source = "the vendor's page of keys, 2026-11-02"   # optional, for people
    nodes = ["build-7"]                                # optional; without it, every node
    keys = ['''-----BEGIN PUBLIC KEY-----…''']         # RSA of 2048 bits or more, or ECC
    paths = ["usr/bin/", "usr/lib/libx.so.1"]          # directories, with `/`, and files
    revoked = ["sha256:…", "verity:sha256:…"]          # optional: never again, whoever knows them

Critical data, as the kernel's list has it, of which an operator knows more than its digest; `name`,
`source` and `nodes` as above:

    version = 1
    kind = "verity"
    name = "appliance-7"
    tables = ["dm_version=…;…target_name=verity,…;"]   # buffers of dm_table_load

    version = 1
    kind = "confinement"
    name = "tpm-for-the-attestor"
    policies = ["sha256:…"]                            # of /sys/fs/selinux/policy
    states = ["initialized=1;enforcing=1;…"]           # buffers of selinux-state
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from evidence import Malformed
from evidence.critical_data import SelinuxState, VerityTable
from verifier.confinement import Confinement
from verifier.crypto import file_keys
from verifier.policy import FileKey, ReferenceSet, Signer
from verifier.reasons import Reason, Rejected, reject, sha256_text
from verifier.tables import Table
from verifier.verity import Verity, is_unchangeable

NAME = re.compile(r"[a-z0-9]([a-z0-9._+-]{0,62}[a-z0-9])?")
"""Of a reference set."""
NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""Of a node: lower-case letters, digits, `.` and `-`, at most 63."""
PATH = re.compile(
    r"(?!\.{1,2}(/|\Z))[^\x00-\x1f\x7f/]+(/(?!\.{1,2}(/|\Z))[^\x00-\x1f\x7f/]+)*", re.DOTALL
)
"""Relative, no empty component, none that is `.` or `..`, no control character."""

SIGNER = "signer"
"""The kind of document that names keys; a set has none."""
VERITY = "verity"
CONFINEMENT = "confinement"

_SIGNED_PATH = re.compile(rf"(?!.*[*?\[\]])(?:{PATH.pattern})/?", re.DOTALL)
"""A pattern would match nothing, since paths are compared: refused, not passed over."""
_PEM = re.compile(r"\s*-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]+-----END PUBLIC KEY-----\s*")
_KIND = re.compile(f"{SIGNER}|{VERITY}|{CONFINEMENT}")
_REVOKED = re.compile(r"(verity:)?(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_TABLE = re.compile(r"dm_version=[!-~]*")
_STATE = re.compile(r"([a-z0-9_]+=[01];)+")
_SOURCE = re.compile(r"[^\x00-\x1f\x7f]{0,512}")


ReferenceValue = ReferenceSet | Signer | Verity | Confinement


@lru_cache(maxsize=256)
def read_reference_value(text: str) -> ReferenceValue:
    """Return what the TOML document is; raise Rejected if it is no reference value.

    Each is read once: a set of a whole distribution takes a second.
    """
    table = Table.parse(text, "reference value")
    if "kind" not in table.values:
        return _read_set(table)
    return _READERS[table.text("kind", _KIND)](table)


def read_reference(text: str) -> ReferenceSet:
    """Return the set in the TOML document; raise Rejected if it is anything else."""
    return _read_set(Table.parse(text, "reference set"))


def read_signer(text: str) -> Signer:
    """Return the signer in the TOML document; raise Rejected if it is anything else."""
    return _read_signer(Table.parse(text, SIGNER))


def _read_set(table: Table) -> ReferenceSet:
    name, source, nodes = read_head(table, "reference set")
    files = table.table("files")
    table.end()
    if not files.values:
        raise table.refuse("files", expected="at least one file")
    for path in files.values:
        if PATH.fullmatch(path) is None:
            raise files.refuse(path, expected="a path relative to the root, without . and ..")
    digests = {path: read_digests(files, path) for path in files.values}
    return ReferenceSet(name=name, files=digests, nodes=nodes, source=source)


def _read_signer(table: Table) -> Signer:
    table.text("kind", re.compile(SIGNER))
    name, source, nodes = read_head(table, SIGNER)
    keys = tuple(_read_key(table, pem) for pem in table.texts("keys", _PEM))
    paths = table.texts("paths", _SIGNED_PATH)
    revoked = table.texts("revoked", _REVOKED)
    table.end()
    if not keys or len({one.spki for one in keys}) != len(keys):
        raise table.refuse("keys", expected="different keys, at least one")
    if not paths:
        raise table.refuse("paths", expected="at least one file or directory")
    return Signer(
        name=name, keys=keys, paths=paths, revoked=frozenset(revoked), nodes=nodes, source=source
    )


def _read_verity(table: Table) -> Verity:
    name, source, nodes = read_head(table, VERITY)
    texts = table.texts("tables", _TABLE)
    table.end()
    if not texts:
        raise table.refuse("tables", expected="at least one")
    try:
        tables = tuple(VerityTable.decode(one.encode()) for one in texts)
    except Malformed as malformed:
        raise table.refuse("tables", expected=str(malformed)) from malformed
    if not all(is_unchangeable(one) for one in tables):
        expected = "tables of SHA-2 that check each block each time, and refuse what is wrong"
        raise table.refuse("tables", expected=expected)
    return Verity(name=name, tables=tables, nodes=nodes, source=source)


def _read_confinement(table: Table) -> Confinement:
    name, source, nodes = read_head(table, CONFINEMENT)
    policies = read_digests(table, "policies")
    texts = table.texts("states", _STATE)
    table.end()
    try:
        states = tuple(SelinuxState.decode(one.encode()) for one in texts)
    except Malformed as malformed:
        raise table.refuse("states", expected=str(malformed)) from malformed
    if not states or not all(one.is_enforcing for one in states):
        expected = "at least one, in all of which SELinux is initialized and enforcing"
        raise table.refuse("states", expected=expected)
    return Confinement(name=name, policies=policies, states=states, nodes=nodes, source=source)


_READERS: Mapping[str, Callable[[Table], ReferenceValue]] = {
    SIGNER: _read_signer,
    VERITY: _read_verity,
    CONFINEMENT: _read_confinement,
}


def read_head(table: Table, what: str) -> tuple[str, str, tuple[str, ...]]:
    """Return what documents of reference values have: name, source and nodes."""
    name = table.text("name", NAME)
    table.what = f"{what} {name}"
    source = table.text("source", _SOURCE, default="")
    nodes = table.texts("nodes", NODE)
    if "nodes" in table.values and not nodes:
        raise table.refuse("nodes", expected="at least one, or no such key")
    return name, source, nodes


def _read_key(table: Table, pem: str) -> FileKey:
    try:
        spki = file_keys.file_key(pem)
    except ValueError as flaw:
        raise _weak(table, str(flaw)) from flaw
    return FileKey(spki=spki, key_id=file_keys.file_key_id(spki))


def _weak(table: Table, found: str) -> Rejected:
    expected = "RSA of 2048 bits or more with exponent 65537, or ECC on P-256, P-384 or P-521"
    return reject(Reason.POLICY_INVALID, f"{table.what}: keys", expected=expected, found=found)


def read_digests(table: Table, key: str) -> tuple[bytes, ...]:
    """Return the SHA-256 digests that a key holds: one text, or an array of different ones."""
    value = table.value(key)
    texts = value if isinstance(value, list) else [value]
    matches = [_DIGEST.fullmatch(one) if isinstance(one, str) else None for one in texts]
    digests = tuple(bytes.fromhex(match[1]) for match in matches if match is not None)
    if not matches or len(set(digests)) != len(matches):
        raise table.refuse(key, expected='different digests "sha256:…", at least one')
    return digests


def encode_reference(reference: ReferenceSet) -> str:
    """Return the TOML document that `read_reference` reads: the same for the same set."""
    lines = ["version = 1", f"name = {quoted(reference.name)}"]
    if reference.source:
        lines.append(f"source = {quoted(reference.source)}")
    if reference.nodes:
        lines.append(f"nodes = [{', '.join(quoted(node) for node in reference.nodes)}]")
    lines += ["", "[files]"]
    for path, digests in sorted(reference.files.items()):
        texts = [quoted(sha256_text(digest)) for digest in digests]
        value = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        lines.append(f"{quoted(path)} = {value}")
    return "\n".join([*lines, ""])


def quoted(text: str) -> str:
    """Return a TOML basic string: JSON's, and DEL escaped as well (TOML 1.0, Strings)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
