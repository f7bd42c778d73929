"""Base64url without padding (RFC 7515, section 2), one text for each value.

Python's decoder skips characters outside the alphabet and ignores spare bits of the last one,
so several texts would stand for the same token; here exactly one does.
"""

import base64
import re


def encode(data: bytes) -> str:
    """Return the one text of `data`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes whose one text is `text`; raise ValueError on any other text."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("not the base64url of its bytes")
    return data
