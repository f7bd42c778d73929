"""Values of every format of `evidence/`, for property tests."""

from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from evidence import ima, tpm
from evidence.messages import (
    Activation,
    ActivationAnswer,
    Body,
    Challenge,
    ChallengeRequest,
    Enrol,
    Enrolled,
    Evidence,
    Gone,
    GoneAnswer,
    HandOver,
    Result,
    SignedMessage,
    Wanted,
    WantedAnswer,
)
from evidence.modules import ModuleTree
from evidence.process import CoreRecord
from evidence.shapes import Message, Shape

MESSAGES: tuple[type[Message], ...] = (
    Enrol,
    Activation,
    ActivationAnswer,
    Enrolled,
    SignedMessage,
    Wanted,
    WantedAnswer,
    ChallengeRequest,
    Challenge,
    Body,
    Evidence,
    Result,
    Gone,
    GoneAnswer,
    HandOver,
    CoreRecord,
    ModuleTree,
)

_PLAIN: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=12),
    bytes: st.binary(max_size=40),
    int: st.integers(min_value=0, max_value=(1 << 64) - 1),
    bool: st.booleans(),
}


_BUILT: dict[Any, st.SearchStrategy[Any]] = {}


def shapes(kind: type[Shape]) -> st.SearchStrategy[Any]:
    """Return values of a message or of a part of one."""
    if kind not in _BUILT:
        hints = get_type_hints(kind)
        members = {field.name: _member(hints[field.name]) for field in fields(kind)}
        _BUILT[kind] = st.builds(kind, **members)
    return _BUILT[kind]


def _member(hint: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - a type
    if get_origin(hint) is tuple:
        return st.lists(_member(get_args(hint)[0]), max_size=3).map(tuple)
    return _PLAIN[hint] if hint in _PLAIN else shapes(hint)


u16, u32, u64 = (st.integers(min_value=0, max_value=(1 << bits) - 1) for bits in (16, 32, 64))
names = st.binary(max_size=66)
digests = st.binary(max_size=64)


@st.composite
def pcr_selections(draw: st.DrawFn) -> tpm.PcrSelection:
    size = draw(st.integers(min_value=1, max_value=4))
    registers = draw(st.sets(st.integers(min_value=0, max_value=8 * size - 1)))
    return tpm.PcrSelection(bank=draw(u16), registers=tuple(sorted(registers)), size_bytes=size)


selections = st.lists(pcr_selections(), max_size=4).map(tuple)
clocks = st.builds(tpm.ClockInfo, clock=u64, reset_count=u32, restart_count=u32, safe=st.booleans())
attests = st.builds(
    tpm.Attest,
    qualified_signer=names,
    extra_data=digests,
    clock_info=clocks,
    firmware_version=u64,
    attested=st.one_of(
        st.builds(tpm.Quote, selections=selections, digest=digests),
        st.builds(tpm.Creation, name=names, creation_hash=digests),
        st.builds(tpm.Certification, name=names, qualified_name=names),
        st.builds(tpm.Time, time=u64, clock_info=clocks, firmware_version=u64),
    ),
)
creation_data = st.builds(
    tpm.CreationData,
    selections=selections,
    digest=digests,
    locality=st.integers(min_value=0, max_value=255),
    parent_name_hash=u16,
    parent_name=names,
    parent_qualified_name=names,
    outside_info=digests,
)


HASH_IDS = st.sampled_from(sorted(tpm.HASHES))


@st.composite
def signatures(
    draw: st.DrawFn, hashes: st.SearchStrategy[int] = u16, most_bytes: int = 256
) -> tpm.Signature:
    scheme = draw(st.sampled_from([tpm.ALG_RSASSA, tpm.ALG_RSAPSS, tpm.ALG_ECDSA]))
    count = 2 if scheme == tpm.ALG_ECDSA else 1
    values = draw(st.tuples(*[st.binary(max_size=most_bytes)] * count))
    return tpm.Signature(scheme=scheme, hash=draw(hashes), values=values)


@st.composite
def publics(draw: st.DrawFn) -> tpm.Public:
    is_rsa = draw(st.booleans())
    hashed = [tpm.ALG_RSASSA, tpm.ALG_RSAPSS, tpm.ALG_OAEP] if is_rsa else [
        tpm.ALG_ECDSA, tpm.ALG_ECDH, tpm.ALG_SM2, tpm.ALG_ECSCHNORR,
    ]  # fmt: skip
    bare = [tpm.ALG_NULL, tpm.ALG_RSAES] if is_rsa else [tpm.ALG_NULL]
    algorithm = draw(st.sampled_from(hashed + bare))
    parameters = (draw(HASH_IDS),) if algorithm in hashed else ()
    unique = (st.binary(max_size=256),) if is_rsa else (st.binary(max_size=48),) * 2
    return tpm.Public(
        type=tpm.ALG_RSA if is_rsa else tpm.ALG_ECC,
        name_hash=draw(HASH_IDS),
        attributes=draw(u32),
        policy=draw(digests),
        symmetric=draw(st.sampled_from([tpm.NO_SCHEME, tpm.AES_128_CFB])),
        scheme=tpm.Scheme(algorithm=algorithm, parameters=parameters),
        size=draw(u16),
        exponent=draw(u32) if is_rsa else 0,
        unique=draw(st.tuples(*unique)),
    )


STRUCTURES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "TPMS_ATTEST": (tpm.Attest.decode, attests),
    "TPMT_SIGNATURE": (tpm.Signature.decode, signatures()),
    "TPMT_PUBLIC": (tpm.Public.decode, publics()),
    "TPMS_CREATION_DATA": (tpm.CreationData.decode, creation_data),
}
"""Reader and values of each TPM structure."""

records = st.builds(
    ima.Record,
    register=st.integers(min_value=0, max_value=ima.MOST_REGISTER),
    template_hash=st.binary(min_size=20, max_size=20),
    template=st.text(
        st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40
    ).filter(lambda name: name != "ima"),
    data=st.binary(max_size=200),
)


def flips(data: bytes) -> list[bytes]:
    """Return every version of the bytes in which one bit is another."""
    number, size = int.from_bytes(data), len(data)
    return [(number ^ 1 << bit).to_bytes(size) for bit in range(8 * size)]
