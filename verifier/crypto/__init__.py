"""The verifier's one drawer of cryptography. Every algorithm is chosen here or by a stored key.

Nothing in a message picks an algorithm, and no randomness is drawn: what needs some takes it
as an argument, so that the same arguments give the same answer.
"""
