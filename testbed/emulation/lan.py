"""The home's LAN: access links carried by the loop, the kernel's bridge between, the capture point.

A frame of a device takes its access link's delay, is captured as it enters the bridge, crosses the
kernel's bridge, and takes the delay of the access link it leaves by. The router hangs on the
bridge without delay, so the capture shows what a capture on the router would.
"""

from __future__ import annotations

import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.emulation import frames
from testbed.emulation.links import DOWN, UP, Way
from testbed.scenario.internet import ROUTER_ANSWERS_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.emulation.loop import Loop
    from testbed.emulation.namespaces import Tap
    from testbed.emulation.recorder import Recorder
    from testbed.emulation.stations import Interface
    from testbed.emulation.wire import Wire

_ORIGINS_KEPT = 65_536
_MULTICAST = b"\x01\x00\x5e"
_ALL_SYSTEMS = b"\xe0\0\0\x01"
_DHCP_SERVER = 67


@dataclass(eq=False)
class Port:
    """A device's access link."""

    name: str
    interface: Interface
    bridge: Tap
    delay_ns: int
    way: Way
    link: str = "down"
    """`down`, `home`, or `open`: on another network, which nobody captures."""
    elsewhere: Callable[[bytes], None] | None = field(default=None)
    """Takes the frames while the link is `open`."""
    groups: set[bytes] = field(default_factory=set)
    """The multicast groups that the device's kernel receives."""
    address: bytes = b""
    """The device's address; empty when it has none."""

    def ignores(self, frame: bytes) -> bool:
        """Tell whether the device's kernel would drop a flooded frame without any effect.

        Questions for others' addresses, groups it is no member of, and what is for DHCP servers:
        a network of many devices floods too much of it to hand it all over.
        """
        ethertype, protocol = frames.kind(frame)
        if ethertype == frames.ARP:
            return frames.arp_fields(frame)[3] != self.address
        if frame[:3] == _MULTICAST:
            group = frame[30:34]
            return group != _ALL_SYSTEMS and group not in self.groups
        return protocol == frames.UDP and frames.ports(frame)[1] == _DHCP_SERVER


class Origins:
    """Which device is behind a packet that reached a server through a router's NAT."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, bytes, int], str] = {}

    def remember(self, frame: bytes, router: bytes) -> None:
        """Note a frame that a device sends to the router."""
        ethertype, protocol = frames.kind(frame)
        if frame[:6] != router or ethertype != frames.IPV4 or protocol not in (frames.TCP, frames.UDP):
            return
        source, target = frames.ports(frame)
        self._found[protocol, source, frame[30:34], target] = ".".join(map(str, frame[26:30]))
        if len(self._found) > _ORIGINS_KEPT:
            del self._found[next(iter(self._found))]

    def find(self, protocol: int, port: int, server: bytes, server_port: int) -> str | None:
        """Return the device's address.

        None when the NAT had to change the port, or when the router itself was the client.
        """
        return self._found.get((protocol, port, server, server_port))


class Lan:
    """The bridge, the ports on it, and what passes."""

    def __init__(self, loop: Loop, recorder: Recorder, router: Interface, router_bridge: Tap) -> None:
        """Hang the router on the bridge."""
        self._loop = loop
        self._recorder = recorder
        self._router = router
        self._router_bridge = router_bridge
        self._ports: dict[int, Port] = {}
        self._wires: dict[int, tuple[Wire, Tap]] = {}
        self._poll = select.epoll()
        self._poll.register(router_bridge.fd, select.EPOLLIN)
        self.origins = Origins()
        self.router_addresses: frozenset[bytes] = frozenset()
        """What the router sends from when it answers by itself."""
        self.running = True
        """Whether the router, and with it the LAN, is on."""
        router.cable = self._from_router
        self._flushing = False

    def attach(self, port: Port) -> None:
        """Hang a device on the bridge; its link is down at first."""
        self._ports[port.bridge.fd] = port
        self._poll.register(port.bridge.fd, select.EPOLLIN)
        port.interface.cable = lambda frame: self._from_device(port, frame)

    def join(self, wire: Wire, bridge: Tap) -> None:
        """Join a real network to the bridge; whoever is on it is put down by the interface's name."""
        self._wires[bridge.fd] = wire, bridge
        self._poll.register(bridge.fd, select.EPOLLIN)
        self._loop.watch(wire.fd, lambda: self._from_wire(wire, bridge))

    def _from_wire(self, wire: Wire, bridge: Tap) -> None:
        for frame in wire.read():
            if self.running:
                self._recorder.station(wire.interface, frame[6:12])
                self._recorder.frame(self._loop.now_ns, frame)
                self.origins.remember(frame, self._router.mac)
                bridge.write(frame)
        self._flush()

    def _from_device(self, port: Port, frame: bytes) -> None:
        if port.link == "open" and port.elsewhere is not None:
            port.elsewhere(frame)
            return
        if port.link != "home":
            return
        when_ns = port.way.arrival_ns(self._loop.now_ns, port.delay_ns, len(frame), UP)
        if when_ns is not None:
            traced = self._recorder.trace(frame)  # the port may be claimed anew before it arrives
            self._loop.call_at(port.way.in_order_ns(when_ns, UP), lambda: self._enter(port, frame, traced))

    def _enter(self, port: Port, frame: bytes, traced: tuple[int, int, int]) -> None:
        if not self.running or port.link != "home":
            return
        self._recorder.frame(self._loop.now_ns, frame, traced)
        self.origins.remember(frame, self._router.mac)
        port.bridge.write(frame)
        self._flush()

    def _from_router(self, frame: bytes) -> None:
        ethertype, _ = frames.kind(frame)
        answers = ethertype == frames.ARP or frame[26:30] in self.router_addresses
        if answers and not self._loop.real:  # programs and kernels take no virtual time
            self._loop.call_at(self._loop.now_ns + ROUTER_ANSWERS_NS, lambda: self._leave(frame))
        else:
            self._leave(frame)

    def _leave(self, frame: bytes) -> None:
        if not self.running:
            return
        self._recorder.frame(self._loop.now_ns, frame)
        self._router_bridge.write(frame)
        self._flush()

    def _flush(self) -> None:
        """Carry on what the bridge has put out."""
        if self._flushing:  # the router answered from within: the outer call goes on
            return
        self._flushing = True
        while events := self._poll.poll(0):
            for fd, _ in sorted(events):
                if fd == self._router_bridge.fd:
                    frame = self._router_bridge.read_one()
                    if self.running:
                        self._router.receive(frame)
                elif fd in self._wires:
                    wire, bridge = self._wires[fd]
                    frame = bridge.read_one()
                    if self.running:
                        wire.write(frame)
                else:
                    port = self._ports[fd]
                    self._to_device(port, port.bridge.read_one())
        self._flushing = False

    def _to_device(self, port: Port, frame: bytes) -> None:
        if frame[0] & 1 and not self._loop.real and port.ignores(frame):
            return
        when_ns = port.way.arrival_ns(self._loop.now_ns, port.delay_ns, len(frame), DOWN)
        if port.link == "home" and when_ns is not None:
            self._loop.call_at(port.way.in_order_ns(when_ns, DOWN), lambda: self._deliver(port, frame))

    def _deliver(self, port: Port, frame: bytes) -> None:
        if self.running and port.link == "home":
            port.interface.receive(frame)

    def close(self) -> None:
        """Give back the poll descriptor."""
        self._poll.close()
