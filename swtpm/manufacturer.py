"""A TPM manufacturer: a CA, and TPMs whose endorsement keys it has certified."""

import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CAP, TPM2_PT, TPM2_PT_FIRMWARE, TPMA_NV
from tpm2_pytss.types import (
    TPM2B_MAX_NV_BUFFER,
    TPM2B_NV_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
)
from tpm2_pytss.utils import NoSuchIndex, create_ek_template

from swtpm.certificates import Device, found, issue_ek, load, save
from swtpm.programs import Failed
from swtpm.tpm import SoftwareTpm

EK_CERTIFICATES = {"EK-RSA2048": 0x01C00002, "EK-ECC256": 0x01C0000A}
"""Template and NV index of its certificate: EK Credential Profile v2.5 2.2.1.4, 2.2.1.5."""

EK_CHAIN = 0x01C00100
"""NV index of the certificate of the CA between: the same, 2.2.1.5.2."""

HASHES = {"sha1": 0x4, "sha256": 0xB, "sha384": 0xC, "sha512": 0xD}
"""TPM_ALG_ID of each bank that swtpm can have."""

NV_BYTES = 1400
"""Room for a certificate; the rest of it holds 0xFF, as many vendors leave it."""

NV_CHUNK_BYTES = 512

NV_ATTRIBUTES = (
    TPMA_NV.PLATFORMCREATE | TPMA_NV.PPREAD | TPMA_NV.PPWRITE | TPMA_NV.OWNERREAD
    | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
)  # fmt: skip
"""The platform writes, the owner and anybody else read."""


class Manufacturer:
    """A root, an intermediate under it, and the TPMs they vouch for."""

    def __init__(self, directory: Path) -> None:
        self.root_file = directory / "root.pem"
        """What a verifier is told to trust."""
        self.intermediate_file = directory / "intermediate.pem"
        self._intermediate = load(self.intermediate_file)

    @classmethod
    def at(cls, directory: Path) -> "Manufacturer":
        """Return the manufacturer who lives in a directory; found it if there is none."""
        if not (directory / "intermediate.pem").exists():
            directory.mkdir(parents=True, exist_ok=True)
            root = found("procseal test manufacturer root", None)
            save(root, directory / "root.pem")
            save(found("procseal test manufacturer 1", root), directory / "intermediate.pem")
        return cls(directory)

    def make_tpm(
        self, state: Path, *, banks: tuple[str, ...] = ("sha256",), with_certificates: bool = True
    ) -> SoftwareTpm:
        """Make a new TPM, in place of whatever was in the directory.

        `banks` are the PCR banks it has. Without certificates it is a TPM whose vendor keeps
        them on a web site, or one whose maker nobody knows.
        """
        shutil.rmtree(state, ignore_errors=True)
        tpm = SoftwareTpm(state)
        with tpm as tcti, ESAPI(tcti) as context:
            _allocate(context, banks)
        if with_certificates:
            with tpm as tcti, ESAPI(tcti) as context:
                for template, index in EK_CERTIFICATES.items():
                    certificate = self._certify(context, template)
                    _write(context, index, certificate)
                between = self._intermediate.certificate
                _write(context, EK_CHAIN, between.public_bytes(serialization.Encoding.DER))
        return tpm

    def _certify(self, context: Any, template: str) -> bytes:  # noqa: ANN401 - pytss has no types
        """Create an endorsement key and return its certificate."""
        _, public = create_ek_template(template, _no_index)
        handle, public, *_ = context.create_primary(
            TPM2B_SENSITIVE_CREATE(), public, ESYS_TR.ENDORSEMENT
        )
        context.flush_context(handle)
        key = serialization.load_pem_public_key(public.to_pem())
        if not isinstance(key, RSAPublicKey | ec.EllipticCurvePublicKey):
            raise Failed(f"the TPM made a strange key for {template}")
        return issue_ek(self._intermediate, key, _device(context))


def _allocate(context: Any, banks: tuple[str, ...]) -> None:  # noqa: ANN401
    """Choose the PCR banks, each with all 24 registers; the next start has them."""
    # TPML_PCR_SELECTION, TPM 2.0 Part 2 r1.59 10.9.7: count, then hash, size and bit map of each.
    encoded = len(HASHES).to_bytes(4, "big")
    for name, number in HASHES.items():
        encoded += number.to_bytes(2, "big") + b"\x03" + (b"\xff" if name in banks else b"\0") * 3
    selection, _ = TPML_PCR_SELECTION.unmarshal(encoded)
    context.pcr_allocate(selection, auth_handle=ESYS_TR.PLATFORM)


def _device(context: Any) -> Device:  # noqa: ANN401
    """Return what the TPM says of itself."""
    return Device(
        manufacturer=f"id:{_property(context, TPM2_PT.MANUFACTURER):08X}",
        model="swtpm",
        version=f"id:{_property(context, TPM2_PT_FIRMWARE.VERSION_1):08X}",
    )


def _property(context: Any, which: int) -> int:  # noqa: ANN401
    _, answer = context.get_capability(TPM2_CAP.TPM_PROPERTIES, which, 1)
    return int(answer.data.tpmProperties[0].value)


def _no_index(index: int) -> bytes:
    raise NoSuchIndex(index)


def _write(context: Any, index: int, certificate: bytes) -> None:  # noqa: ANN401
    """Write a certificate where verifiers look for it."""
    data = certificate.ljust(NV_BYTES, b"\xff")
    if len(data) > NV_BYTES:
        raise Failed("the EK certificate is larger than its NV index")
    area = TPMS_NV_PUBLIC(
        nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=NV_ATTRIBUTES, dataSize=NV_BYTES
    )
    handle = context.nv_define_space(
        b"", TPM2B_NV_PUBLIC(nvPublic=area), auth_handle=ESYS_TR.PLATFORM
    )
    for offset in range(0, NV_BYTES, NV_CHUNK_BYTES):
        chunk = TPM2B_MAX_NV_BUFFER(data[offset : offset + NV_CHUNK_BYTES])
        context.nv_write(handle, chunk, offset, auth_handle=ESYS_TR.PLATFORM)
