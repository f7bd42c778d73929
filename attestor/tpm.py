"""Everything that is asked of the TPM. tpm2-pytss lives here; only bytes come out.

Each public method leaves the TPM as it found it: every object and session that it loads is
flushed, whatever happens in between. A TPM has three slots for objects and about three for
sessions, and one that leaks is gone until somebody restarts the program.

One `Tpm` is one ESYS context, which is not safe to use from two threads at a time;
`attestor.worker` gives it a thread of its own.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_CC,
    TPM2_RH,
    TPM2_SE,
    TPM2_ST,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_NONCE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPML_DIGEST,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMS_CONTEXT,
    TPMS_SENSITIVE_CREATE,
    TPMT_HA,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMT_TK_HASHCHECK,
    TPMU_HA,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
    TSS2_Exception,
)

from attestor.config import EkKind
from attestor.failed import Failed
from attestor.templates import (
    AK,
    EK,
    EK_CERTIFICATE_INDEX,
    EK_CHAIN_INDICES,
    STORAGE,
    process,
)
from evidence import Malformed, process_key, tpm
from evidence.certificate import split, trim
from evidence.messages import QUOTED_REGISTERS

REGISTERS_PER_READ = 8
"""TPML_DIGEST holds eight digests (Part 2, 10.9.4)."""
READ_TRIES = 10
"""How often registers are read again when one changed in between."""

NV_READ_BYTES = 512
"""What every PC's TPM reads at a time (PC Client Platform TPM Profile, TPM_PT_NV_BUFFER_MAX)."""

MOST_CHAIN_BYTES = 16 << 10
"""Of the certificates that a TPM holds for its EK's; Intel's are about 3000."""

MOST_ID_OBJECT_BYTES = 132
"""TPMS_ID_OBJECT with the longest digests (Part 2, 12.4.2)."""
MOST_SECRET_BYTES = 256
"""A secret encrypted to an RSA 2048 key; longer than an ECC point (Part 2, 11.4.3)."""

_KEYS_SCHEME = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
"""Sign with the scheme that the key itself has."""

_HANDLE_TYPES = (0x80000000, 0x02000000, 0x03000000)
"""First transient object, loaded session and saved session (TPM_HC, Part 2, 7.5)."""


class TpmFailed(Failed):
    """The TPM, or the way to it, did not do what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessKey:
    """A process key outside the TPM; only this boot's TPM can load it."""

    public: bytes
    """TPMT_PUBLIC."""
    creation_data: bytes
    """TPMS_CREATION_DATA."""
    certification: bytes
    """TPMS_ATTEST of TPM2_CertifyCreation by the AK."""
    signature: bytes
    """TPMT_SIGNATURE over it."""
    context: bytes = field(repr=False)
    """TPMS_CONTEXT, which the TPM encrypts to itself."""
    auth_value: bytes = field(repr=False)
    """32 random bytes that stand in no other place."""
    may_sign: bool
    """It is the process's use key too."""

    @property
    def name(self) -> bytes:
        """The key's Name."""
        return tpm.Public.decode(self.public).name()

    @property
    def point(self) -> bytes:
        """Its public half: P-256, uncompressed point, 65 bytes."""
        return process_key.point_of(tpm.Public.decode(self.public))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Something that the TPM stated, and its signature."""

    attest: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""


@dataclass(frozen=True, slots=True)
class _Primary:
    public: bytes
    context: bytes = field(repr=False)


class Tpm:
    """A TPM that is reached through `tcti`, such as `device:/dev/tpmrm0`."""

    def __init__(self, tcti: str, *, ek: EkKind = "rsa2048") -> None:
        # libtss2 writes to stderr whatever a TPM refuses, before anyone could handle it.
        os.environ.setdefault("TSS2_LOG", "all+NONE")
        self.operations: Counter[str] = Counter()
        """TPM commands so far, by their name in ESYS."""
        self._ek_kind = ek
        self._primaries: dict[str, _Primary] = {}
        self._tcti = tcti
        self._esys: Any = None
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Reach for the TPM, again after `close`."""
        try:
            self._esys = ESAPI(self._tcti)
        except (TSS2_Exception, RuntimeError) as error:
            raise TpmFailed(f"no TPM at {self._tcti}: {error}") from error

    def close(self) -> None:
        """Let go of the TPM: some are reached by one program at a time."""
        if self._esys is not None:
            self._esys.close()
        self._esys = None

    # Keys that are the same at every start

    def ek_public(self) -> bytes:
        """Return the TPMT_PUBLIC of the endorsement key."""
        return self._primary("ek").public

    def ak_public(self) -> bytes:
        """Return the TPMT_PUBLIC of the attestation key."""
        return self._primary("ak").public

    def ek_certificate(self) -> bytes:
        """Return the endorsement key's certificate in DER, or nothing where the TPM has none.

        Where the index holds something else, the verifier gets that, and says so.
        """
        content = self._index_content(EK_CERTIFICATE_INDEX[self._ek_kind])
        try:
            return trim(content)
        except Malformed:
            return content

    def ek_intermediates(self) -> tuple[bytes, ...]:
        """Return the certificates of CAs that the TPM holds for its EK's, DER, often none."""
        chain = b""
        for index in EK_CHAIN_INDICES:
            content = self._index_content(index)
            chain += content
            if not content or len(chain) > MOST_CHAIN_BYTES:
                break
        return split(chain)

    def _index_content(self, number: int) -> bytes:
        """Return what an NV index holds, nothing where there is no such index."""
        try:
            index = self._do("tr_from_tpmpublic", number)
        except TpmFailed:
            return b""
        try:
            public, _ = self._do("nv_read_public", index)
            return self._read_index(index, int(public.nvPublic.dataSize))
        finally:
            self._esys.tr_close(index)

    def _read_index(self, index: Any, size_bytes: int) -> bytes:  # noqa: ANN401 ESYS_TR
        content = b""
        while len(content) < size_bytes:
            wanted = min(NV_READ_BYTES, size_bytes - len(content))
            content += bytes(self._do("nv_read", index, wanted, len(content)))
        return content

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that somebody wrapped for this EK and this AK."""
        with self._salted_session(TPM2_SE.HMAC) as session, self._loaded("ak") as ak:
            return self._activate(ak, session, id_object, encrypted_secret)

    def _activate(
        self,
        key: Any,  # noqa: ANN401 ESYS_TR
        session: Any,  # noqa: ANN401 ESYS_TR
        id_object: bytes,
        encrypted_secret: bytes,
    ) -> bytes:
        if len(id_object) > MOST_ID_OBJECT_BYTES or len(encrypted_secret) > MOST_SECRET_BYTES:
            raise TpmFailed("no TPM takes an activation of that size")
        wrapped = TPM2B_ID_OBJECT(credential=id_object)
        seed = TPM2B_ENCRYPTED_SECRET(secret=encrypted_secret)
        with self._ek_session() as ek_session, self._loaded("ek") as ek:
            secret = self._do(
                "activate_credential",
                key,
                ek,
                wrapped,
                seed,
                session1=session,
                session2=ek_session,
            )
        return bytes(secret)

    # Keys of processes

    def create_process_key(self, outside_info: bytes, *, may_sign: bool = False) -> ProcessKey:
        """Make a key for the core record whose digest is `outside_info`, and certify it."""
        auth_value = secrets.token_bytes(32)
        sensitive = TPM2B_SENSITIVE_CREATE(sensitive=TPMS_SENSITIVE_CREATE(userAuth=auth_value))
        with self._loaded("storage") as parent:
            with self._salted_session(TPM2_SE.HMAC, parent) as session:
                private, public, creation_data, creation_hash, ticket = self._do(
                    "create",
                    parent,
                    sensitive,
                    _public(process(may_sign=may_sign)),
                    TPM2B_DATA(buffer=outside_info),
                    _selection(process_key.CREATION_REGISTERS),
                    session1=session,
                )
            key = self._do("load", parent, private, public)
        with self._flushed(key), self._loaded("ak") as ak:
            attest, signature = self._do(
                "certify_creation", ak, key, TPM2B_DATA(), creation_hash, _KEYS_SCHEME, ticket
            )
            return ProcessKey(
                public=public.publicArea.marshal(),
                creation_data=creation_data.creationData.marshal(),
                certification=bytes(attest),
                signature=signature.marshal(),
                context=self._do("context_save", key).marshal(),
                auth_value=auth_value,
                may_sign=may_sign,
            )

    def activate_process_key(
        self, key: ProcessKey, id_object: bytes, encrypted_secret: bytes
    ) -> bytes:
        """Return the chain key that the verifier wrapped for this process key."""
        with (
            self._salted_session(TPM2_SE.POLICY) as policy,
            self._process_key(key, policy, TPM2_CC.ActivateCredential) as handle,
        ):
            return self._activate(handle, policy, id_object, encrypted_secret)

    def sign(self, key: ProcessKey, digest: bytes) -> bytes:
        """Return the signature of a SHA-256 digest by a process key that may: r and s, 64 bytes.

        Nothing of it is secret, so its session is not salted.
        """
        unhashed = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        with (
            self._flushed(self._start_session(TPM2_SE.POLICY, ESYS_TR.NONE)) as policy,
            self._process_key(key, policy, TPM2_CC.Sign) as handle,
        ):
            signature = self._do(
                "sign", handle, TPM2B_DIGEST(digest), _KEYS_SCHEME, unhashed, session1=policy
            )
        made = tpm.Signature.decode(signature.marshal())
        return b"".join(one.rjust(process_key.COORDINATE_BYTES, b"\0") for one in made.values)

    @contextmanager
    def _process_key(self, key: ProcessKey, policy: Any, command: Any) -> Iterator[Any]:  # noqa: ANN401
        """Load a process key for one command, which `policy` then allows."""
        self._do("policy_auth_value", policy)
        self._do("policy_command_code", policy, command)
        if key.may_sign:
            branches = [TPM2B_DIGEST(one) for one in process_key.SIGNING_BRANCHES]
            self._do("policy_or", policy, TPML_DIGEST(branches))
        with self._flushed(self._load_context(key.context)) as handle:
            self._esys.tr_set_auth(handle, key.auth_value)
            yield handle

    # Registers

    def quote(self, extra_data: bytes) -> Signed:
        """Return the AK's quote over sha256:0-15, bound to `extra_data`."""
        with self._loaded("ak") as ak:
            attest, signature = self._do(
                "quote", ak, _selection(QUOTED_REGISTERS), TPM2B_DATA(buffer=extra_data)
            )
        return Signed(attest=bytes(attest), signature=signature.marshal())

    def read_registers(self) -> tuple[bytes, ...]:
        """Return the values of sha256:0-15, all of one moment."""
        halves = QUOTED_REGISTERS[:REGISTERS_PER_READ], QUOTED_REGISTERS[REGISTERS_PER_READ:]
        for _ in range(READ_TRIES):
            reads = [self._do("pcr_read", _selection(half)) for half in halves]
            counters = {int(counter) for counter, _, _ in reads}
            if len(counters) == 1:
                values = tuple(bytes(digest) for _, _, digests in reads for digest in digests)
                if len(values) != len(QUOTED_REGISTERS):
                    raise TpmFailed("the TPM has no sha256 bank")
                return values
        raise TpmFailed(f"the registers changed during each of {READ_TRIES} reads")

    def extend(self, register: int, digest: bytes) -> None:
        """Extend a register's sha256 bank."""
        values = TPML_DIGEST_VALUES(
            [TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=digest))]
        )
        self._do("pcr_extend", ESYS_TR(register), values)

    def count_handles(self) -> int:
        """Return how many objects and sessions are in the TPM: 0 between operations."""
        found = 0
        for first in _HANDLE_TYPES:
            more = True
            while more:
                more, data = self._do("get_capability", TPM2_CAP.HANDLES, first, 64)
                handles = list(data.data.handles)
                found += len(handles)
                first = int(handles[-1]) + 1 if handles else first  # noqa: PLW2901
        return found

    # What the methods above are made of

    def _do(self, command: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401
        """Run one TPM command and count it; its types go no further than this file."""
        if self._esys is None:
            raise TpmFailed("another attestor takes over")
        self.operations[command] += 1
        try:
            return getattr(self._esys, command)(*arguments, **named)
        except TSS2_Exception as error:
            raise TpmFailed(f"{command}: {error}") from error

    def _primary(self, kind: str) -> _Primary:
        """Return a primary key, made at its first use and kept as a context from then on."""
        if kind not in self._primaries:
            template, hierarchy = {
                "ek": (EK[self._ek_kind], ESYS_TR.ENDORSEMENT),
                "ak": (AK, ESYS_TR.ENDORSEMENT),
                "storage": (STORAGE, ESYS_TR.NULL),
            }[kind]
            handle, public, *_ = self._do(
                "create_primary", TPM2B_SENSITIVE_CREATE(), _public(template), hierarchy
            )
            with self._flushed(handle):
                context = self._do("context_save", handle).marshal()
            self._primaries[kind] = _Primary(public.publicArea.marshal(), context)
        return self._primaries[kind]

    @contextmanager
    def _loaded(self, kind: str) -> Iterator[Any]:
        """Load a primary key for the time of the block."""
        with self._flushed(self._load_context(self._primary(kind).context)) as handle:
            yield handle

    def _load_context(self, context: bytes) -> Any:  # noqa: ANN401 ESYS_TR
        return self._do("context_load", TPMS_CONTEXT.unmarshal(context)[0])

    @contextmanager
    def _flushed(self, handle: Any) -> Iterator[Any]:  # noqa: ANN401 ESYS_TR
        """Flush an object or a session at the end of the block."""
        try:
            yield handle
        finally:
            # A TPM that has gone away holds nothing; the first error is the one to report.
            with suppress(TpmFailed):
                self._do("flush_context", handle)

    @contextmanager
    def _salted_session(self, kind: Any, salt_key: Any = None) -> Iterator[Any]:  # noqa: ANN401
        """Open a session that encrypts the first parameter both ways.

        Its salt is encrypted to the storage primary: auth values and secrets cross the bus as
        ciphertext to whoever only listens.
        """
        if salt_key is None:
            with self._loaded("storage") as storage:
                session = self._start_session(kind, storage)
        else:
            session = self._start_session(kind, salt_key)
        with self._flushed(session):
            attributes = TPMA_SESSION.ENCRYPT | TPMA_SESSION.CONTINUESESSION
            if kind == TPM2_SE.HMAC:
                attributes |= TPMA_SESSION.DECRYPT
            self._esys.trsess_set_attributes(session, attributes)
            yield session

    @contextmanager
    def _ek_session(self) -> Iterator[Any]:
        """Open the session that the EK's policy demands: PolicySecret(endorsement)."""
        with self._flushed(self._start_session(TPM2_SE.POLICY, ESYS_TR.NONE)) as session:
            self._do("policy_secret", ESYS_TR.ENDORSEMENT, session, nonce_tpm=TPM2B_NONCE())
            yield session

    def _start_session(self, kind: Any, salt_key: Any) -> Any:  # noqa: ANN401 ESYS_TR
        cipher = TPMT_SYM_DEF(
            algorithm=TPM2_ALG.AES,
            keyBits=TPMU_SYM_KEY_BITS(sym=128),
            mode=TPMU_SYM_MODE(sym=TPM2_ALG.CFB),
        )
        return self._do("start_auth_session", salt_key, ESYS_TR.NONE, kind, cipher, TPM2_ALG.SHA256)


def _public(template: tpm.Public) -> TPM2B_PUBLIC:
    area, _ = TPMT_PUBLIC.unmarshal(template.encode())
    return TPM2B_PUBLIC(publicArea=area)


def _selection(registers: tuple[int, ...]) -> TPML_PCR_SELECTION:
    chosen = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=registers)
    selection, _ = TPML_PCR_SELECTION.unmarshal(tpm.encode_selections((chosen,)))
    return selection


__all__ = ["ProcessKey", "Signed", "Tpm", "TpmFailed"]
