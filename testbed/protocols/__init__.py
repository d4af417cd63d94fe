"""Wire codecs: bytes in, values out, and back. No I/O, no clock, no chance of their own.

Every decoder raises `ValueError` on bytes that are not a message of its protocol, and nothing else.
"""
