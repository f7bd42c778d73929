"""An endorsement key and the key in its certificate are one."""

from evidence import tpm
from evidence.certificate import Certificate, trim
from tests.shared_vectors import VECTORS, needs_vectors
from verifier.crypto import certified_keys, tpm_keys


@needs_vectors
def test_a_real_endorsement_key_and_its_certificate() -> None:
    folder = VECTORS / "generated-swtpm"
    public = tpm.Public.decode((folder / "ek_rsa2048.tpm2b_public").read_bytes()[2:])
    der = trim((folder / "ek_rsa2048.cert.nv.der").read_bytes())
    assert tpm_keys.spki(public) == certified_keys.certified_spki(Certificate.decode(der).spki)
