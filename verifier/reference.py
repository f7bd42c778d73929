"""Reference sets as TOML, read and written here.

    version = 1
    name = "debian-12"
    source = "packages of bookworm, 2026-11-02"   # optional, for people
    nodes = ["build-7"]                           # optional; without it, every node

    [files]
    "usr/bin/bash" = "sha256:…64 hexadecimal digits…"
    "etc/ld.so.cache" = ["sha256:…", "sha256:…"]

A path is relative to the root and a label only: the digest decides.
"""

import json
import re

from verifier.policy import ReferenceSet
from verifier.reasons import sha256_text
from verifier.tables import Table

NAME = re.compile(r"[a-z0-9]([a-z0-9._+-]{0,62}[a-z0-9])?")
"""Of a reference set."""
NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""Of a node: lower-case letters, digits, `.` and `-`, at most 63."""
PATH = re.compile(
    r"(?!\.{1,2}(/|\Z))[^\x00-\x1f\x7f/]+(/(?!\.{1,2}(/|\Z))[^\x00-\x1f\x7f/]+)*", re.DOTALL
)
"""Relative, no empty component, none that is `.` or `..`, no control character."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SOURCE = re.compile(r"[^\x00-\x1f\x7f]{0,512}")


def read_reference(text: str) -> ReferenceSet:
    """Return the set in the TOML document; raise Rejected if it is anything else."""
    table = Table.parse(text, "reference set")
    name = table.text("name", NAME)
    table.what = f"reference set {name}"
    source = table.text("source", _SOURCE, default="")
    nodes = table.texts("nodes", NODE)
    if "nodes" in table.values and not nodes:
        raise table.refuse("nodes", expected="at least one, or no such key")
    files = table.table("files")
    table.end()
    if not files.values:
        raise table.refuse("files", expected="at least one file")
    digests = {path: _read_digests(files, path) for path in files.values}
    return ReferenceSet(name=name, files=digests, nodes=nodes, source=source)


def _read_digests(files: Table, path: str) -> tuple[bytes, ...]:
    if PATH.fullmatch(path) is None:
        raise files.refuse(path, expected="a path relative to the root, without . and ..")
    value = files.value(path)
    texts = value if isinstance(value, list) else [value]
    matches = [_DIGEST.fullmatch(one) if isinstance(one, str) else None for one in texts]
    digests = tuple(bytes.fromhex(match[1]) for match in matches if match is not None)
    if not matches or len(set(digests)) != len(matches):
        raise files.refuse(path, expected='different digests "sha256:…", at least one')
    return digests


def encode_reference(reference: ReferenceSet) -> str:
    """Return the TOML document that `read_reference` reads: the same for the same set."""
    lines = ["version = 1", f"name = {_quoted(reference.name)}"]
    if reference.source:
        lines.append(f"source = {_quoted(reference.source)}")
    if reference.nodes:
        lines.append(f"nodes = [{', '.join(_quoted(node) for node in reference.nodes)}]")
    lines += ["", "[files]"]
    for path, digests in sorted(reference.files.items()):
        texts = [_quoted(sha256_text(digest)) for digest in digests]
        value = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        lines.append(f"{_quoted(path)} = {value}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Return a TOML basic string: JSON's, and DEL escaped as well (TOML 1.0, Strings)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
