"""Everything that is asked of the TPM; only bytes come out.

Each public method leaves the TPM as it found it: `attestor.esys` flushes what it loads.

One `Tpm` is one ESYS context, which is not safe to use from two threads at a time;
`attestor.worker` gives it a thread of its own.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_CC,
    TPM2_RH,
    TPM2_SE,
    TPM2_ST,
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_SENSITIVE_CREATE,
    TPML_DIGEST,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMS_SENSITIVE_CREATE,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
    TPMU_HA,
)

from attestor.config import EkKind
from attestor.esys import Esys, TpmFailed, public_of
from attestor.templates import EK_CERTIFICATE_INDEX, EK_CHAIN_INDICES, process
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


class Tpm:
    """A TPM that is reached through `tcti`, such as `device:/dev/tpmrm0`."""

    def __init__(self, tcti: str, *, ek: EkKind = "rsa2048") -> None:
        self.esys = Esys(tcti, ek=ek)
        self._ek_kind = ek

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.esys.close()

    # Keys that are the same at every start

    def ek_public(self) -> bytes:
        """Return the TPMT_PUBLIC of the endorsement key."""
        return self.esys.primary("ek").public

    def ak_public(self) -> bytes:
        """Return the TPMT_PUBLIC of the attestation key."""
        return self.esys.primary("ak").public

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
            index = self.esys.do("tr_from_tpmpublic", number)
        except TpmFailed:
            return b""
        try:
            public, _ = self.esys.do("nv_read_public", index)
            return self._read_index(index, int(public.nvPublic.dataSize))
        finally:
            self.esys.tell("tr_close", index)

    def _read_index(self, index: Any, size_bytes: int) -> bytes:  # noqa: ANN401 ESYS_TR
        content = b""
        while len(content) < size_bytes:
            wanted = min(NV_READ_BYTES, size_bytes - len(content))
            content += bytes(self.esys.do("nv_read", index, wanted, len(content)))
        return content

    def activate(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Return the secret that somebody wrapped for this EK and this AK."""
        with self.esys.salted_session(TPM2_SE.HMAC) as session, self.esys.loaded("ak") as ak:
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
        with self.esys.ek_session() as ek_session, self.esys.loaded("ek") as ek:
            secret = self.esys.do(
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
        with self.esys.loaded("storage") as parent:
            with self.esys.salted_session(TPM2_SE.HMAC, parent) as session:
                private, public, creation_data, creation_hash, ticket = self.esys.do(
                    "create",
                    parent,
                    sensitive,
                    public_of(process(may_sign=may_sign)),
                    TPM2B_DATA(buffer=outside_info),
                    _selection(process_key.CREATION_REGISTERS),
                    session1=session,
                )
            key = self.esys.do("load", parent, private, public)
        with self.esys.flushed(key), self.esys.loaded("ak") as ak:
            attest, signature = self.esys.do(
                "certify_creation", ak, key, TPM2B_DATA(), creation_hash, _KEYS_SCHEME, ticket
            )
            return ProcessKey(
                public=public.publicArea.marshal(),
                creation_data=creation_data.creationData.marshal(),
                certification=bytes(attest),
                signature=signature.marshal(),
                context=self.esys.do("context_save", key).marshal(),
                auth_value=auth_value,
                may_sign=may_sign,
            )

    def activate_process_key(
        self, key: ProcessKey, id_object: bytes, encrypted_secret: bytes
    ) -> bytes:
        """Return the chain key that the verifier wrapped for this process key."""
        with (
            self.esys.salted_session(TPM2_SE.POLICY) as policy,
            self._process_key(key, policy, TPM2_CC.ActivateCredential) as handle,
        ):
            return self._activate(handle, policy, id_object, encrypted_secret)

    def sign(self, key: ProcessKey, digest: bytes) -> bytes:
        """Return the signature of a SHA-256 digest by a process key that may: r and s, 64 bytes.

        Nothing of it is secret, so its session is not salted.
        """
        unhashed = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        with (
            self.esys.flushed(self.esys.start_session(TPM2_SE.POLICY, ESYS_TR.NONE)) as policy,
            self._process_key(key, policy, TPM2_CC.Sign) as handle,
        ):
            signature = self.esys.do(
                "sign", handle, TPM2B_DIGEST(digest), _KEYS_SCHEME, unhashed, session1=policy
            )
        made = tpm.Signature.decode(signature.marshal())
        return b"".join(one.rjust(process_key.COORDINATE_BYTES, b"\0") for one in made.values)

    @contextmanager
    def _process_key(self, key: ProcessKey, policy: Any, command: Any) -> Iterator[Any]:  # noqa: ANN401
        """Load a process key for one command, which `policy` then allows."""
        self.esys.do("policy_auth_value", policy)
        self.esys.do("policy_command_code", policy, command)
        if key.may_sign:
            branches = [TPM2B_DIGEST(one) for one in process_key.SIGNING_BRANCHES]
            self.esys.do("policy_or", policy, TPML_DIGEST(branches))
        with self.esys.flushed(self.esys.load_context(key.context)) as handle:
            self.esys.tell("tr_set_auth", handle, key.auth_value)
            yield handle

    # Registers

    def quote(self, extra_data: bytes) -> Signed:
        """Return the AK's quote over sha256:0-15, bound to `extra_data`."""
        with self.esys.loaded("ak") as ak:
            attest, signature = self.esys.do(
                "quote", ak, _selection(QUOTED_REGISTERS), TPM2B_DATA(buffer=extra_data)
            )
        return Signed(attest=bytes(attest), signature=signature.marshal())

    def read_registers(self) -> tuple[bytes, ...]:
        """Return the values of sha256:0-15, all of one moment."""
        halves = QUOTED_REGISTERS[:REGISTERS_PER_READ], QUOTED_REGISTERS[REGISTERS_PER_READ:]
        for _ in range(READ_TRIES):
            reads = [self.esys.do("pcr_read", _selection(half)) for half in halves]
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
        self.esys.do("pcr_extend", ESYS_TR(register), values)


def _selection(registers: tuple[int, ...]) -> TPML_PCR_SELECTION:
    chosen = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=registers)
    selection, _ = TPML_PCR_SELECTION.unmarshal(tpm.encode_selections((chosen,)))
    return selection


__all__ = ["ProcessKey", "Signed", "Tpm", "TpmFailed"]
