"""A real interface as a carried link's cable: frames in and out through a packet socket.

Nothing of the interface is changed: it keeps its addresses, and the kernel takes it out of
promiscuous mode by itself once the socket is gone. Rules of this file:
- Heard is what is for the device's own hardware address, and what is for everybody; or, where a whole
  network is joined, everything. A filter in the kernel keeps the rest away, frames of a VLAN too.
- The kernel leaves checksums and segmentation to the hardware, and joins segments that arrive
  together. Each frame comes with a header that says so (linux/virtio_net.h); it is made here what it
  would be on a cable.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from typing import TYPE_CHECKING

from testbed.emulation import frames, packet_filter
from testbed.errors import UserError, WorldError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOL_PACKET, _VNET_HEADER, _IGNORE_OUTGOING, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 15, 23, 1, 1
_EVERY_PROTOCOL = 0x0003
_ETHERNET = 1
_GET_FLAGS = 0x8913
_IF_UP, _IF_LOOPBACK, _IF_RUNNING = 0x1, 0x8, 0x40
_LARGEST = 65_536 + 64
_AT_ONCE = 256

_OFFLOAD = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM, _TCP4 = 1, 1
_NO_OFFLOAD = bytes(_OFFLOAD.size)


class Wire:
    """A real interface, heard and spoken on under hardware addresses of our own."""

    def __init__(
        self, interface: str, mac: str | None = None, opened: socket.socket | None = None
    ) -> None:  # fmt: skip
        """Listen on `interface` of this process's namespace, or take over a socket that does.

        With `mac` only what concerns that address is heard.
        Raises UserError when there is no such Ethernet interface, or it is switched off.
        """
        self.interface = interface
        self.socket = opened or _listen(interface, mac)
        self.socket.setblocking(False)
        self.socket.set_inheritable(False)
        self.fd = self.socket.fileno()

    def carrier(self) -> bool:
        """Tell whether the interface is up and has a cable; WorldError when it is gone."""
        return _flags(self.socket, self.interface) & (_IF_UP | _IF_RUNNING) == _IF_UP | _IF_RUNNING

    def read(self) -> Iterator[bytes]:
        """Give the frames that came since the last look, so many at most that others have their turn."""
        for _ in range(_AT_ONCE):
            try:
                data = self.socket.recv(_LARGEST)
            except OSError:  # nothing more; or the interface has just been switched off
                return
            yield from on_cable(data)

    def write(self, frame: bytes) -> None:
        """Send a frame; what cannot be sent now is lost, as on a cable."""
        try:
            self.socket.send(_NO_OFFLOAD + frame)
        except OSError:
            return


def _listen(interface: str, mac: str | None) -> socket.socket:
    known = {name for _, name in socket.if_nameindex()}
    if interface not in known:
        raise UserError(f"there is no interface '{interface}'; {nearest(interface, known)}")
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise WorldError(f"{interface}: a packet socket needs root: run it with sudo") from None
    try:
        opened.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
        opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        heard = packet_filter.for_mac(frames.mac_bytes(mac)) if mac else packet_filter.for_everyone()
        packet_filter.attach(opened, heard)
        opened.bind((interface, _EVERY_PROTOCOL))
        flags = _flags(opened, interface)
        if flags & _IF_LOOPBACK or opened.getsockname()[3] != _ETHERNET:
            raise UserError(f"{interface} is no Ethernet interface, and needs to be one")
        if not flags & _IF_UP:
            raise UserError(f"{interface} is switched off; switch it on: ip link set {interface} up")
        request = struct.pack("=iHH8s", socket.if_nametoindex(interface), _PROMISCUOUS, 0, b"")
        opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
    except BaseException as problem:
        opened.close()
        if isinstance(problem, OSError):
            raise WorldError(f"{interface}: cannot be listened on: {problem.strerror}") from None
        raise
    return opened


def _flags(opened: socket.socket, interface: str) -> int:
    """Return an interface's flags, in the namespace to which the socket belongs."""
    try:
        answer = fcntl.ioctl(opened, _GET_FLAGS, struct.pack("16sH14x", interface.encode(), 0))
    except OSError as problem:
        if problem.errno == errno.ENODEV:
            raise WorldError(f"the interface {interface} is gone") from None
        raise
    flags: int = struct.unpack_from("16xH", answer)[0]
    return flags


def on_cable(data: bytes) -> list[bytes]:
    """Return the frames that a cable would have carried for one of a packet socket, its header first."""
    flags, kind, _, size, start, offset = _OFFLOAD.unpack_from(data)
    frame = data[_OFFLOAD.size :]
    if kind & ~0x80 == _TCP4 and size:
        return _segments(frame, size)
    if flags & _NEEDS_CHECKSUM:
        return [_summed(frame, start, start + offset)]
    return [frame]


def _summed(frame: bytes, start: int, at: int) -> bytes:
    """Complete a checksum whose field holds the sum of the pseudo header."""
    whole = frames.checksum(frame[start:]) or 0xFFFF
    return frame[:at] + whole.to_bytes(2, "big") + frame[at + 2 :]


def _segments(frame: bytes, size: int) -> list[bytes]:
    """Cut joined TCP segments apart (IPv4)."""
    tcp_at = 14 + (frame[14] & 15) * 4
    data_at = tcp_at + (frame[tcp_at + 12] >> 4) * 4
    end = 14 + int.from_bytes(frame[16:18], "big")
    ident, seq = int.from_bytes(frame[18:20], "big"), int.from_bytes(frame[tcp_at + 4 : tcp_at + 8], "big")
    found = []
    for number, at in enumerate(range(data_at, end, size)):
        part = frame[at : min(at + size, end)]
        header = bytearray(frame[:data_at])
        header[16:18] = (data_at - 14 + len(part)).to_bytes(2, "big")
        header[18:20] = (ident + number & 0xFFFF).to_bytes(2, "big")
        header[24:26] = b"\0\0"
        header[24:26] = frames.checksum(header[14:tcp_at]).to_bytes(2, "big")
        header[tcp_at + 4 : tcp_at + 8] = (seq + at - data_at & 0xFFFF_FFFF).to_bytes(4, "big")
        if at + size < end:
            header[tcp_at + 13] &= ~(frames.FIN | frames.PSH)
        header[tcp_at + 16 : tcp_at + 18] = b"\0\0"
        pseudo = frame[26:34] + struct.pack("!HH", frames.TCP, data_at - tcp_at + len(part))
        total = frames.checksum(pseudo + bytes(header[tcp_at:]) + part)
        header[tcp_at + 16 : tcp_at + 18] = total.to_bytes(2, "big")
        found.append(bytes(header) + part)
    return found
