"""Changing CBOR member by member: a byte changed at random nearly always leaves no CBOR at all."""

import random
from collections.abc import Callable
from typing import Any

import cbor2

from evidence import cbor

NUMBERS = (0, 1, -1, 16, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1)
TEXTS = ("", "a", "\0", "\n", "lab", "sha256", "attached", "launched", "a" * 300, "\ud7ff")

Mutate = Callable[[bytes, int], bytes]
"""Changes bytes, at most so many afterwards; the fuzzer's own."""


def mutate_cbor(data: bytes, most_bytes: int, seed: int, mutate: Mutate) -> bytes:
    """Return CBOR with a member changed, or bytes that are changed anyhow."""
    chance = random.Random(seed)
    try:
        value = cbor2.loads(data)
        if chance.random() < 1 / 8:
            return mutate(data, most_bytes)
        changed = cbor.encode(_change(value, chance, mutate))
    except Exception:  # noqa: BLE001 - whatever a decoder raises: these are just bytes
        return mutate(data, most_bytes)
    return changed if len(changed) <= most_bytes else mutate(data, most_bytes)


def _change(value: Any, chance: random.Random, mutate: Mutate) -> Any:  # noqa: ANN401 - CBOR
    """Return the value with one thing in it changed."""
    if isinstance(value, list) and value and chance.random() < 7 / 8:
        return _change_member(value, chance, mutate)
    if chance.random() < 1 / 16:
        return chance.choice([None, True, [], "", b"", 0, [value], [value, value]])
    match value:
        case bool():
            choices: list[Any] = [not value]
        case int():
            flipped = value ^ (1 << chance.randrange(64))
            choices = [*NUMBERS, value + 1, value - 1, flipped]
        case str():
            choices = [*TEXTS, value + "a", value[1:], value[::-1]]
        case bytes():
            choices = [_change_bytes(value, chance, mutate)]
        case _:
            choices = [[], [0], [b""], {}, None]
    return chance.choice(choices)


def _change_member(value: list[Any], chance: random.Random, mutate: Mutate) -> list[Any]:
    place = chance.randrange(len(value))
    kind = chance.randrange(16)
    if kind == 0:
        return value[:place] + value[place + 1 :]
    if kind == 1:
        return [*value[:place], value[place], *value[place:]]
    if kind == 2:
        other = chance.randrange(len(value))
        return [value[other] if at == place else one for at, one in enumerate(value)]
    changed = _change(value[place], chance, mutate)
    return [changed if at == place else one for at, one in enumerate(value)]


def _change_bytes(value: bytes, chance: random.Random, mutate: Mutate) -> bytes:
    """Change bytes as CBOR where they are some: messages lie within messages."""
    if chance.random() < 1 / 2:
        try:
            inner = cbor2.loads(value)
            if isinstance(inner, list):
                return cbor.encode(_change(inner, chance, mutate))
        except Exception:  # noqa: BLE001 - not CBOR then
            pass
    return mutate(value, max(64, 2 * len(value)))
