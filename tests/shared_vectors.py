"""Files that nobody in this project wrote: in `shared/vectors`, beside the checkout or absent."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parent.parent.parent / "shared" / "vectors"

needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason=f"no third-party vectors: {VECTORS} is not there"
)


def expected(kind: str) -> dict[str, Any]:
    """Return what `expected.json` says of each file of a kind, nothing where it is absent."""
    table = VECTORS / "expected.json"
    return dict(json.loads(table.read_text())[kind]) if table.is_file() else {}


def names(kind: str) -> list[Any]:
    """Return the parameters of a test of each file of a kind: one that is skipped where absent."""
    return or_absent(expected(kind))


def or_absent(parameters: Iterable[Any]) -> list[Any]:
    """Return the parameters in their order, or one that is skipped and says why."""
    return sorted(parameters) or [pytest.param("", marks=needs_vectors, id="absent")]
