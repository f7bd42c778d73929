"""Introducing this TPM to a verifier, once: the EK, the AK, and the proof that both are in it."""

import hashlib
import hmac
from dataclasses import dataclass

from attestor.client import Verifier
from attestor.crypto import spki_digest
from attestor.tpm import Tpm
from attestor.worker import Worker
from evidence import tpm
from evidence.messages import (
    Activation,
    ActivationAnswer,
    Enrol,
    Enrolled,
    activation_text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The TPM as a verifier knows it."""

    ek_public: bytes
    """TPMT_PUBLIC."""
    ek_certificate: bytes
    """DER, empty where there is none."""
    ek_intermediates: tuple[bytes, ...]
    """Certificates of CAs that the TPM holds, DER."""
    ak_public: bytes
    """TPMT_PUBLIC."""

    @property
    def ek_hash(self) -> str:
        """SHA-256 of the EK's SubjectPublicKeyInfo: what an inventory lists."""
        return spki_digest(tpm.Public.decode(self.ek_public))

    @property
    def ak_name(self) -> bytes:
        """The attestation key's Name."""
        return tpm.Public.decode(self.ak_public).name()


def identify(one: Tpm) -> Identity:
    """Ask the TPM who it is."""
    return Identity(
        ek_public=one.ek_public(),
        ek_certificate=one.ek_certificate(),
        ek_intermediates=one.ek_intermediates(),
        ak_public=one.ak_public(),
    )


async def enrol(node: str, verifier: Verifier, worker: Worker[Tpm]) -> Enrolled:
    """Enrol this TPM under the name `node`; `pending` is an answer too, Refused is none."""
    identity = await worker.run(identify)
    introduction = Enrol(
        node=node,
        ek_public=identity.ek_public,
        ek_certificate=identity.ek_certificate,
        ek_intermediates=identity.ek_intermediates,
        ak_public=identity.ak_public,
    )
    asked = await verifier.ask("/v1/enrol", introduction, Activation)
    secret = await worker.run(lambda one: one.activate(asked.id_object, asked.encrypted_secret))
    text = activation_text(asked.id, node, identity.ak_name)
    answer = ActivationAnswer(id=asked.id, answer=hmac.digest(secret, text, hashlib.sha256))
    return await verifier.ask("/v1/enrol/answer", answer, Enrolled)
