"""What is done inside a host's network namespace: sockets, TAP devices, kernel settings.

A descriptor belongs to the namespace in which it was opened, whoever uses it afterwards; so the
one process of a run opens each socket inside the namespace of its host and keeps them all.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x4000_0000
_TUNSETIFF = 0x4004_54CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_LARGEST_FRAME = 2048


class Namespace:
    """A network namespace, held open by a descriptor."""

    def __init__(self, pid: int | None = None) -> None:
        """Open the namespace of process `pid`, or of this process."""
        _home()  # before any other namespace is entered
        self._fd = os.open(f"/proc/{pid or 'self'}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def call(self, work: Callable[[], T]) -> T:
        """Return `work()`, run inside the namespace; what it opens stays there."""
        back = _home()
        _setns(self._fd)
        try:
            return work()
        finally:
            _setns(back)

    def settings(self, values: Mapping[str, object]) -> None:
        """Write kernel settings (``net.…``) of the namespace; those that the kernel lacks are left out."""

        def write() -> None:
            for name, value in values.items():
                try:
                    with open("/proc/sys/" + name.replace(".", "/"), "w") as setting:
                        setting.write(str(value))
                except FileNotFoundError:
                    continue  # an older kernel without this timer: nothing to switch off
                except OSError as error:
                    raise WorldError(f"the kernel refuses {name} = {value}: {error.strerror}") from error

        self.call(write)

    def close(self) -> None:
        """Let the namespace go."""
        os.close(self._fd)


@cache
def _home() -> int:
    """Return a descriptor of the process's own network namespace, opened at the first call."""
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _setns(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise WorldError(f"cannot enter a network namespace: {os.strerror(number)} (is this root?)")


class Tap:
    """One end of a carried link: an interface of the kernel whose cable is this process."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        """Create interface `name` in `namespace`; it lives as long as this object's descriptor."""
        self.name = name
        self.fd = namespace.call(self._open)

    def _open(self) -> int:
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise WorldError(
                f"cannot open /dev/net/tun: {error.strerror}; load it with: modprobe tun"
            ) from error
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", self.name.encode(), _IFF_TAP | _IFF_NO_PI))
        return fd

    def read(self) -> list[bytes]:
        """Return the frames that the kernel has sent since the last look."""
        frames = []
        fd = self.fd
        try:
            while True:
                frames.append(os.read(fd, _LARGEST_FRAME))
        except BlockingIOError:
            return frames

    def read_one(self) -> bytes:
        """Return the next frame of a device that is known to have one."""
        return os.read(self.fd, _LARGEST_FRAME)

    def write(self, frame: bytes) -> None:
        """Let the kernel receive a frame; when this returns, it has dealt with it."""
        with suppress(OSError):  # the interface is down: the frame is lost, as on a cable
            os.write(self.fd, frame)

    def close(self) -> None:
        """Take the interface away."""
        os.close(self.fd)
