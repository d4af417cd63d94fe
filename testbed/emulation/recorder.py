"""The capture point on the LAN and the ground truth: which frame was caused by what.

A frame is tied to the behaviour that caused it by the device's socket it belongs to: programs
register the port (or echo identifier) they use with what they use it for. What no program asked for
(ARP, an answer to an unknown segment) is the kernel's, under the behaviour ``kernel``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from testbed.capture.write import Label, LabelWriter, PcapWriter
from testbed.emulation import frames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.capture.write import StateSpan
    from testbed.host import About

KERNEL = "kernel"
_BATCH = 20_000
_ICMP_ECHO = (0, 8)
_DHCP_HARDWARE = 14 + 20 + 8 + 28
"""Where a DHCP message in a frame names the client's hardware."""


class Cause(NamedTuple):
    """Why a frame exists."""

    label: int
    exchange: int


class Recorder:
    """Writes the capture and its labels, frame by frame."""

    def __init__(
        self,
        capture: Path | None,
        labels: Path | None,
        states: Sequence[StateSpan],
        begin_ns: int,
        end_ns: int,
        router: str,
        router_mac: str,
    ) -> None:
        """Record frames from `begin_ns` until `end_ns` (Unix); `router` is the router's name.

        Without paths frames are counted, but not kept.
        """
        self._pcap = PcapWriter(capture) if capture is not None else None
        self._label_writer = LabelWriter(labels, states) if labels is not None else None
        self._begin_ns, self._end_ns = begin_ns, end_ns
        self._labels: list[Label] = []
        self._label_index: dict[Label, int] = {}
        self._names: dict[bytes, str] = {frames.mac_bytes(router_mac): router}
        self._router = router
        self._causes: dict[tuple[str, int, int], Cause] = {}
        self._exchanges: dict[str, int] = {}
        self._columns: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
        self.frames = 0
        self.bytes = 0
        self.per_device: dict[str, tuple[int, int]] = {}
        """Frames and bytes of each device, by its labels."""

    def station(self, name: str, mac: bytes) -> None:
        """Make a device known by its MAC."""
        self._names[mac] = name

    def exchange(self, device: str) -> int:
        """Return the number of a device's next exchange."""
        number = self._exchanges.get(device, 0) + 1
        self._exchanges[device] = number
        return number

    def cause(self, device: str, behaviour: str, about: About, exchange: int) -> Cause:
        """Return what the frames of an exchange are put down to."""
        return Cause(
            self._label(Label(device, behaviour, about.protocol, about.attempt, about.service)), exchange
        )

    def _label(self, label: Label) -> int:
        index = self._label_index.get(label)
        if index is None:
            index = self._label_index[label] = len(self._labels)
            self._labels.append(label)
        return index

    def claim(self, device: str, protocol: int, port: int, cause: Cause) -> None:
        """Tie what a device sends and receives at a port to a cause, until the port is claimed anew."""
        self._causes[device, protocol, port] = cause

    def frame(self, now_ns: int, frame: bytes, traced: tuple[int, int, int] | None = None) -> None:
        """Record a frame that is on the LAN now; `traced` is what it was traced to when it was sent."""
        if not self._begin_ns <= now_ns < self._end_ns:
            return
        label, exchange, received = traced or self.trace(frame)
        times, labels, exchanges, directions = self._columns
        times.append(now_ns // 1000 * 1000)
        labels.append(label)
        exchanges.append(exchange)
        directions.append(received)
        if self._pcap is not None:
            self._pcap.frame(now_ns // 1000, frame)
        self.frames += 1
        self.bytes += len(frame)
        device = self._labels[label].device
        count, size = self.per_device.get(device, (0, 0))
        self.per_device[device] = (count + 1, size + len(frame))
        if len(times) >= _BATCH:
            self._flush()

    def trace(self, frame: bytes) -> tuple[int, int, int]:
        """Return label, exchange and direction (1 is received) of a frame, as ports are claimed now."""
        target, source = frame[:6], frame[6:12]
        if target == frames.BROADCAST and frames.is_dhcp_answer(frame):
            target = frame[_DHCP_HARDWARE : _DHCP_HARDWARE + 6]
        sender = self._names.get(source, self._router)
        receiver = self._names.get(target)
        device = sender
        if sender == self._router and receiver is not None:
            device = receiver
        protocol, source_port, target_port, error = _ends(frame)
        if error:  # about a packet of the device, or about one that the device would not take
            found = self._find(device, protocol, target_port if sender == device else source_port)
        else:
            found = self._find(sender, protocol, source_port)
            if found is None and receiver is not None:
                found = self._find(receiver, protocol, target_port)
        if found is None:
            about = "ICMP" if error else _KERNEL_PROTOCOLS.get(protocol, "other")
            number = self._label(Label(device, KERNEL, about, 0, ""))
            return number, self._exchanges.get(device, 0), int(sender != device)
        label = self._labels[found.label]
        if error:
            label = Label(label.device, label.behaviour, "ICMP", label.attempt, label.service)
            return self._label(label), found.exchange, int(sender != label.device)
        return found.label, found.exchange, int(sender != label.device)

    def _find(self, device: str, protocol: int, port: int) -> Cause | None:
        return self._causes.get((device, protocol, port))

    def _flush(self) -> None:
        times, labels, exchanges, directions = self._columns
        if self._label_writer is not None:
            self._label_writer.add(
                self._labels,
                np.array(labels, np.int64),
                np.array(times, np.int64),
                np.array(exchanges, np.int64),
                np.array(directions, np.int64),
            )
        for column in self._columns:
            column.clear()

    def close(self) -> None:
        """Finish both files."""
        self._flush()
        for writer in (self._label_writer, self._pcap):
            if writer is not None:
                writer.close()


_NEITHER = -1
"""Stands for the protocol of a frame that is neither IPv4 nor ARP: only a real network has such."""
_KERNEL_PROTOCOLS = {0: "ARP", frames.ICMP: "ICMP", frames.IGMP: "IGMP", frames.TCP: "TCP", frames.UDP: "UDP"}


def _ends(frame: bytes) -> tuple[int, int, int, bool]:
    """Return IP protocol, the sender's and the receiver's port, and whether this is an ICMP error.

    An echo has its identifier for both ports, an IGMP message 0; an ICMP error has the protocol and
    the ports of the packet that it quotes.
    """
    ethertype, protocol = frames.kind(frame)
    if ethertype != frames.IPV4:
        return 0 if ethertype == frames.ARP else _NEITHER, 0, 0, False
    if protocol in (frames.TCP, frames.UDP):
        return protocol, *frames.ports(frame), False
    at = 14 + (frame[14] & 15) * 4
    if protocol != frames.ICMP:
        return protocol, 0, 0, False
    if frame[at] in _ICMP_ECHO:
        identifier = int.from_bytes(frame[at + 4 : at + 6], "big")
        return protocol, identifier, identifier, False
    quoted = frame[at + 8 - 14 :]  # as if an Ethernet header stood before the quoted packet
    inner = frame[at + 8 + 9]
    if inner in (frames.TCP, frames.UDP):
        return inner, *frames.ports(quoted), True
    start = at + 8 + (frame[at + 8] & 15) * 4
    identifier = int.from_bytes(frame[start + 4 : start + 6], "big")
    return inner, identifier, identifier, True
