"""What a program's socket has received: read when its turn comes, or ahead of it.

Linux acknowledges at once, in its quick mode, what arrives; but a socket that is held in interactive
mode (see `testbed.emulation.tcp_timers`) can be made to do so only when nothing is left to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from testbed.emulation.loop import Loop

_LARGEST = 65_536


class Inbox:
    """The receiving half of one stream socket."""

    def __init__(self, loop: Loop, connection: socket.socket, readable: Callable[[], None]) -> None:
        """`readable` is called soon after something was read ahead."""
        self._loop = loop
        self._socket = connection
        self._readable = readable
        self._ahead: list[bytes] = []

    def read_ahead(self) -> None:
        """Take over what has arrived."""
        try:
            data = self._socket.recv(_LARGEST)
        except OSError:  # nothing there; if the connection is gone, its program is told otherwise
            return
        self._ahead.append(data)
        if len(self._ahead) == 1:
            self._loop.call_soon(self._offer)

    def forget(self) -> None:
        """Offer nothing more: the program has gone."""
        self._ahead.clear()

    def _offer(self) -> None:
        if self._ahead:
            self._readable()

    def read(self) -> bytes:
        """Return what has arrived, empty when the peer has closed; errors are those of `recv`."""
        if not self._ahead:
            return self._socket.recv(_LARGEST)
        data, *rest = self._ahead
        while rest and rest[0]:
            data += rest.pop(0)
        self._ahead = rest
        if rest:  # the peer's close comes after its words
            self._loop.call_soon(self._offer)
        return data
