"""The one error of this package: the bytes are not what their format says."""


class Malformed(Exception):
    """Bytes that are not an encoding of what they claim to be.

    It says nothing about trust: a well-formed message that nobody should believe decodes well.
    """
