"""The open Wi-Fi next door: another router with its own uplink, which nobody captures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.emulation.lan import Origins, Port
    from testbed.emulation.loop import Loop
    from testbed.emulation.stations import Interface

NAME = "open-wifi"
NETWORK, PREFIX, ROUTER = "192.168.200.0/24", 24, "192.168.200.1"
MAC, WAN_MAC, WAN_ADDRESS = "02:00:c0:a8:c8:01", "02:00:c6:12:00:03", "198.18.0.3"


class OpenWifi:
    """The air of the open network: between its access point and the devices that settled for it."""

    def __init__(self, loop: Loop, router: Interface, origins: Origins) -> None:
        self._loop = loop
        self._router = router
        self.origins = origins
        self._ports: list[Port] = []
        router.cable = self._from_router

    def attach(self, port: Port) -> None:
        """Let a device reach the network while its link is `open`."""
        self._ports.append(port)
        port.elsewhere = lambda frame: self._from_device(port, frame)

    def _from_device(self, port: Port, frame: bytes) -> None:
        self.origins.remember(frame, self._router.mac)
        self._loop.call_at(self._loop.now_ns + port.delay_ns, lambda: self._router.receive(frame))

    def _from_router(self, frame: bytes) -> None:
        for port in self._ports:
            if port.link == "open" and (frame[0] & 1 or frame[:6] == port.interface.mac):
                self._deliver(port, frame)

    def _deliver(self, port: Port, frame: bytes) -> None:
        def arrive() -> None:
            if port.link == "open":
                port.interface.receive(frame)

        self._loop.call_at(self._loop.now_ns + port.delay_ns, arrive)
