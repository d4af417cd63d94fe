"""Wire codecs: bytes in, values out, and back. No I/O, no clock, no chance of their own.

Every decoder raises `ValueError` on bytes that are not a message of its protocol, and nothing else.
"""

__all__ = ["WrongSize"]


class WrongSize(ValueError):
    """A message was asked for in fewer bytes than its headers take, or more than it can carry."""
