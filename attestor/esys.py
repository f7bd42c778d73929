"""The way to the TPM: one ESYS context, and what is loaded in the TPM for a while.

tpm2-pytss lives here and in `attestor.tpm`. Every object and session that is loaded is flushed at
the end of its block, whatever happens in between: a TPM has three slots for objects and about three
for sessions, and one that leaks is gone until somebody restarts the program.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_SE,
    TPM2B_NONCE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPMS_CONTEXT,
    TPMT_PUBLIC,
    TPMT_SYM_DEF,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
    TSS2_Exception,
)

from attestor.config import EkKind
from attestor.failed import Failed
from attestor.templates import AK, EK, STORAGE
from evidence import tpm

PrimaryKind = Literal["ek", "ak", "storage"]

_HANDLE_TYPES = (0x80000000, 0x02000000, 0x03000000)
"""First transient object, loaded session and saved session (TPM_HC, Part 2, 7.5)."""


class TpmFailed(Failed):
    """The TPM, or the way to it, did not do what was asked."""


@dataclass(frozen=True, slots=True)
class Primary:
    """A primary key, which the TPM makes again whenever it is asked."""

    public: bytes
    """TPMT_PUBLIC."""
    context: bytes = field(repr=False)
    """TPMS_CONTEXT, which the TPM encrypts to itself."""


class Esys:
    """An ESYS context that reaches the TPM through `tcti`, and the primary keys made in it."""

    def __init__(self, tcti: str, *, ek: EkKind) -> None:
        # libtss2 writes to stderr whatever a TPM refuses, before anyone could handle it.
        os.environ.setdefault("TSS2_LOG", "all+NONE")
        self.operations: Counter[str] = Counter()
        """TPM commands so far, by their name in ESYS."""
        self._ek_kind = ek
        self._primaries: dict[PrimaryKind, Primary] = {}
        self._tcti = tcti
        self._context: Any = None
        self.open()

    def open(self) -> None:
        """Reach for the TPM, again after `close`."""
        try:
            self._context = ESAPI(self._tcti)
        except (TSS2_Exception, RuntimeError) as error:
            raise TpmFailed(f"no TPM at {self._tcti}: {error}") from error

    def close(self) -> None:
        """Let go of the TPM: some are reached by one program at a time."""
        if self._context is not None:
            self._context.close()
        self._context = None

    def do(self, command: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401
        """Run one TPM command and count it; its types go no further than these two files."""
        if self._context is None:
            raise TpmFailed("another attestor takes over")
        self.operations[command] += 1
        try:
            return getattr(self._context, command)(*arguments, **named)
        except TSS2_Exception as error:
            raise TpmFailed(f"{command}: {error}") from error

    def tell(self, function: str, *arguments: object) -> None:
        """Tell the context something that it does without the TPM."""
        getattr(self._context, function)(*arguments)

    def primary(self, kind: PrimaryKind) -> Primary:
        """Return a primary key, made at its first use and kept as a context from then on."""
        if kind not in self._primaries:
            template, hierarchy = {
                "ek": (EK[self._ek_kind], ESYS_TR.ENDORSEMENT),
                "ak": (AK, ESYS_TR.ENDORSEMENT),
                "storage": (STORAGE, ESYS_TR.NULL),
            }[kind]
            handle, public, *_ = self.do(
                "create_primary", TPM2B_SENSITIVE_CREATE(), public_of(template), hierarchy
            )
            with self.flushed(handle):
                context = self.do("context_save", handle).marshal()
            self._primaries[kind] = Primary(public.publicArea.marshal(), context)
        return self._primaries[kind]

    @contextmanager
    def loaded(self, kind: PrimaryKind) -> Iterator[Any]:
        """Load a primary key for the time of the block."""
        with self.flushed(self.load_context(self.primary(kind).context)) as handle:
            yield handle

    def load_context(self, context: bytes) -> Any:  # noqa: ANN401 ESYS_TR
        """Load what the TPM has saved; the handle is the caller's to flush."""
        return self.do("context_load", TPMS_CONTEXT.unmarshal(context)[0])

    @contextmanager
    def flushed(self, handle: Any) -> Iterator[Any]:  # noqa: ANN401 ESYS_TR
        """Flush an object or a session at the end of the block."""
        try:
            yield handle
        finally:
            # A TPM that has gone away holds nothing; the first error is the one to report.
            with suppress(TpmFailed):
                self.do("flush_context", handle)

    @contextmanager
    def salted_session(self, kind: Any, salt_key: Any = None) -> Iterator[Any]:  # noqa: ANN401
        """Open a session that encrypts the first parameter both ways.

        Its salt is encrypted to the storage primary: auth values and secrets cross the bus as
        ciphertext to whoever only listens.
        """
        if salt_key is None:
            with self.loaded("storage") as storage:
                session = self.start_session(kind, storage)
        else:
            session = self.start_session(kind, salt_key)
        with self.flushed(session):
            attributes = TPMA_SESSION.ENCRYPT | TPMA_SESSION.CONTINUESESSION
            if kind == TPM2_SE.HMAC:
                attributes |= TPMA_SESSION.DECRYPT
            self.tell("trsess_set_attributes", session, attributes)
            yield session

    @contextmanager
    def ek_session(self) -> Iterator[Any]:
        """Open the session that the EK's policy demands: PolicySecret(endorsement)."""
        with self.flushed(self.start_session(TPM2_SE.POLICY, ESYS_TR.NONE)) as session:
            self.do("policy_secret", ESYS_TR.ENDORSEMENT, session, nonce_tpm=TPM2B_NONCE())
            yield session

    def start_session(self, kind: Any, salt_key: Any) -> Any:  # noqa: ANN401 ESYS_TR
        """Start a session, salted unless the key is ESYS_TR.NONE; it is the caller's to flush."""
        cipher = TPMT_SYM_DEF(
            algorithm=TPM2_ALG.AES,
            keyBits=TPMU_SYM_KEY_BITS(sym=128),
            mode=TPMU_SYM_MODE(sym=TPM2_ALG.CFB),
        )
        return self.do("start_auth_session", salt_key, ESYS_TR.NONE, kind, cipher, TPM2_ALG.SHA256)

    def count_handles(self) -> int:
        """Return how many objects and sessions are in the TPM: 0 between operations."""
        found = 0
        for first in _HANDLE_TYPES:
            more = True
            while more:
                more, data = self.do("get_capability", TPM2_CAP.HANDLES, first, 64)
                handles = list(data.data.handles)
                found += len(handles)
                first = int(handles[-1]) + 1 if handles else first  # noqa: PLW2901
        return found


def public_of(template: tpm.Public) -> TPM2B_PUBLIC:
    """Return a public area of ours as ESYS takes it."""
    area, _ = TPMT_PUBLIC.unmarshal(template.encode())
    return TPM2B_PUBLIC(publicArea=area)
