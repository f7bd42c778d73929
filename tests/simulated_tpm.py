"""A TPM in memory, and the manufacturer who says that it is one of his.

SimulatedTpm(seed).quote(binding), create(...), activate(...), reset()
MANUFACTURER.certify(key)                            -> EK certificate, DER
"""
# ruff: noqa: ANN401 - `changes` are fields of any type

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from evidence import process_key, tpm
from evidence.messages import QUOTED_REGISTERS
from tests.simulated_keys import (
    EK,
    STORAGE,
    AkKind,
    ecc_public,
    make_ak,
    make_signature,
    point,
    private_key,
    rsa_key,
    sha256,
)
from verifier.crypto import activation

FAR = datetime(2049, 1, 1, tzinfo=UTC)
ZERO = bytes(32)


class SimulatedManufacturer:
    """A CA that says of an EK that it is in one of its TPMs."""

    def __init__(self, name: str = "Simulated TPMs") -> None:
        self.key = private_key(f"manufacturer {name}")
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(self.name, self.key.public_key())
        self.certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self.key, hashes.SHA256())

    def _builder(
        self, subject: x509.Name, key: Any, end: datetime = FAR
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(0x5EA1)
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(end)
        )

    def root(self) -> bytes:
        """Return the root certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def certify(
        self, key: Any, *, usage: str = "2.23.133.8.1", ca: bool = False, end: datetime = FAR
    ) -> bytes:
        """Return an EK certificate, DER, valid from 2020 on."""
        oids = {"2.23.133.2.1": "id:53494D55", "2.23.133.2.2": "tpm", "2.23.133.2.3": "id:0001"}
        attributes = [
            x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in oids.items()
        ]
        builder = (
            self._builder(x509.Name([]), key, end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(usage)]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))]),
                critical=True,
            )
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


MANUFACTURER = SimulatedManufacturer()


class SimulatedTpm:
    """Keys, registers and a clock: what a TPM signs of them, and what it opens."""

    def __init__(self, seed: str, *, ek: str = "ecc", ak: AkKind | None = None) -> None:
        self.seed = seed
        self.ak_kind = ak or AkKind()
        self.ak_key, self.ak = make_ak(seed, self.ak_kind)
        self.ek_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        if ek == "rsa":
            self.ek_key = rsa_key(f"{seed} ek")
            modulus = self.ek_key.public_key().public_numbers().n.to_bytes(256, "big")
            self.ek = tpm.Public(
                type=tpm.ALG_RSA, name_hash=tpm.ALG_SHA256, size=2048, unique=(modulus,), **EK
            )
        else:
            self.ek_key = private_key(f"{seed} ek")
            self.ek = ecc_public(self.ek_key, **EK)
        self.firmware_version = 0x2024_0101_0000_0001
        self.clock = 1_000_000
        self.safe = True
        self.reset_count = 7
        self.restart_count = 0
        self.registers = [ZERO] * len(QUOTED_REGISTERS)
        self.created = 0

    def reset(self) -> None:
        """Do what a power cycle does."""
        self.clock += 60_000
        self.reset_count += 1
        self.restart_count = 0
        self.registers = [ZERO] * len(QUOTED_REGISTERS)

    def extend(self, register: int, digest: bytes) -> None:
        """TPM2_PCR_Extend."""
        self.registers[register] = sha256(self.registers[register] + digest)

    def _clock_info(self) -> tpm.ClockInfo:
        self.clock += 1_000
        return tpm.ClockInfo(
            clock=self.clock,
            reset_count=self.reset_count,
            restart_count=self.restart_count,
            safe=self.safe,
        )

    def attest(self, **changes: Any) -> tuple[bytes, bytes]:
        """Return a TPMS_ATTEST and the AK's TPMT_SIGNATURE over it."""
        fields: dict[str, Any] = {
            "qualified_signer": self.ak.qualified_name(tpm.hierarchy_name(tpm.RH_ENDORSEMENT)),
            "extra_data": b"",
            "clock_info": self._clock_info(),
            "firmware_version": self.firmware_version,
        }
        encoded = tpm.Attest(**(fields | changes)).encode()
        return encoded, self.signature(encoded)

    def signature(self, data: bytes) -> bytes:
        """Return the AK's TPMT_SIGNATURE over any bytes: a restricted key would refuse some."""
        return make_signature(self.ak_key, self.ak_kind, data)

    def quote(self, binding: bytes, **changes: Any) -> tuple[bytes, bytes]:
        """TPM2_Quote over sha256:0-15; `changes` are fields of the TPMS_ATTEST."""
        selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=QUOTED_REGISTERS)
        hash_ = tpm.HASHES[self.ak_kind.hash]
        digest = hashlib.new(hash_, b"".join(self.registers)).digest()
        attested = tpm.Quote(selections=(selection,), digest=digest)
        return self.attest(**({"attested": attested, "extra_data": binding} | changes))

    def storage_primary(self) -> tpm.Public:
        """Return the NULL hierarchy's storage primary of this boot."""
        key = private_key(f"{self.seed} null primary {self.reset_count}")
        return ecc_public(key, attributes=process_key.STORAGE_ATTRIBUTES, **STORAGE)

    def create(
        self,
        outside_info: bytes,
        *,
        may_sign: bool = False,
        public: Mapping[str, Any] | None = None,
        **creation: Any,
    ) -> tuple[tpm.Public, bytes]:
        """TPM2_Create of a process key: its public area and TPMS_CREATION_DATA."""
        self.created += 1
        template: dict[str, Any] = {
            "attributes": process_key.ATTRIBUTES,
            "policy": process_key.policy_digest(may_sign=may_sign),
        }
        key = ecc_public(
            private_key(f"{self.seed} process {self.created}"), **(template | dict(public or {}))
        )
        registers = process_key.CREATION_REGISTERS
        parent = self.storage_primary().name()
        fields: dict[str, Any] = {
            "selections": (tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=registers),),
            "digest": sha256(b"".join(self.registers[register] for register in registers)),
            "locality": 1,
            "parent_name_hash": tpm.ALG_SHA256,
            "parent_name": parent,
            "parent_qualified_name": tpm.qualify(parent, tpm.hierarchy_name(tpm.RH_NULL)),
            "outside_info": outside_info,
        }
        return key, tpm.CreationData(**(fields | creation)).encode()

    def activate(self, name: bytes, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """TPM2_ActivateCredential, for an object of this Name; ValueError where a TPM refuses."""
        seed = self._open_seed(encrypted_secret)
        size = int.from_bytes(id_object[:2])
        integrity, identity = id_object[2 : 2 + size], id_object[2 + size :]
        key = activation.kdf_a(seed, b"INTEGRITY", b"", b"", bits=256)
        if not hmac.compare_digest(integrity, hmac.digest(key, identity + name, "sha256")):
            raise ValueError("TPM_RC_INTEGRITY")
        storage_key = activation.kdf_a(seed, b"STORAGE", name, b"", bits=128)
        opened = _open_cfb(storage_key, identity)
        return opened[2 : 2 + int.from_bytes(opened[:2])]

    def _open_seed(self, encrypted: bytes) -> bytes:
        if isinstance(self.ek_key, rsa.RSAPrivateKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
            return self.ek_key.decrypt(encrypted, oaep)
        x, y = encrypted[2:34], encrypted[36:68]
        numbers = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()
        )
        z = self.ek_key.exchange(ec.ECDH(), numbers.public_key())
        return activation.kdf_e(z, b"IDENTITY", x, point(self.ek_key)[0])


def _open_cfb(key: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor().update(data)
