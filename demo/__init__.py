"""The demo: a machine with a real kernel, a verifier, a relying party, and scenes."""
