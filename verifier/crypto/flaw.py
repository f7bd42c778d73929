"""The mark of a generator whose RSA keys others can factor."""

from cryptography.hazmat.primitives.asymmetric import rsa

from verifier.crypto.tpm_keys import PublicKey

_ROCA_PRIMES = [n for n in range(3, 168) if all(n % m for m in range(2, n))]
_POWERS_OF_65537 = {prime: {pow(65537, n, prime) for n in range(prime)} for prime in _ROCA_PRIMES}


def is_flawed(key: PublicKey) -> bool:
    """Say whether an RSA key has the mark of Infineon's flawed generator (CVE-2017-15361, ROCA).

    Modulo each of many small primes, such a modulus is a power of 65537. Another one is so with
    a chance of less than 2^-27 (Nemec et al., The Return of Coppersmith's Attack, section 3).
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    modulus = key.public_numbers().n
    return all(modulus % prime in powers for prime, powers in _POWERS_OF_65537.items())
