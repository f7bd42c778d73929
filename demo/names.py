"""What everything in the demo is called."""

from typing import Final

NODE = "lab-1"
TRUST_DOMAIN = "example.org"
PAYMENTS = f"spiffe://{TRUST_DOMAIN}/payments"
CONTROLLER = f"spiffe://{TRUST_DOMAIN}/controller"
SIGNER = f"spiffe://{TRUST_DOMAIN}/signer"
ISSUER = "https://verifier.lab:8443"
LEDGER = "https://ledger.lab:8444"
"""The relying party, as its clients know it."""
EK: Final = "ecc256"
"""Asked for an RSA secret of another TPM's, libtpms reports its own failure, not the secret's."""
