"""The room on the node: it collects evidence and guards what was granted; it never judges.

>>> from attestor import Config
>>> Config(node="build-7", verifier="https://verifier.example.org:8443").tcti
'device:/dev/tpmrm0'
"""

from attestor.config import Config

__all__ = ["Config"]
