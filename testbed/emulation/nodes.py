"""The Mininet network of a run: hosts, the LAN's bridge, and links whose cable is this process.

Mininet makes the hosts (a shell in its own network namespace each) and the bridge. Links are
`CarriedLink`: a TAP device at either end, read and written by the loop, so that delay, loss,
association and capture happen in the run's time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mininet.link import Intf, Link
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge

from testbed.emulation.namespaces import Namespace, Tap
from testbed.emulation.netlink import Netlink
from testbed.errors import WorldError

if TYPE_CHECKING:
    from mininet.node import Node

BRIDGE = "lan"
SERVICE = "svc_"
"""What the host of a service is called by, before the service's name (a device may have that name)."""
_SETTLE_S = 5.0
"""Real time allowed until every port of the bridge forwards."""


class TapInterface(Intf):  # type: ignore[misc]
    """An interface that is configured through netlink, not by starting a program for each step."""

    def config(self, **_: Any) -> dict[str, Any]:
        """Leave the interface as it is."""
        return {}

    def IP(self) -> str | None:
        """Return the address that a host has now: leases come and go without Mininet."""
        if not self.node.inNamespace:  # a port of the bridge, whose name is written with all its ports'
            return None
        address: str | None = self.updateIP()
        return address


class CarriedLink(Link):  # type: ignore[misc]
    """A link of two TAP devices; whoever made it carries the frames between `taps`."""

    def __init__(self, node1: Node, node2: Node, **options: Any) -> None:
        self.taps: tuple[Tap, Tap]
        super().__init__(node1, node2, **{**options, "intf": TapInterface})

    def makeIntfPair(
        self, name1: str, name2: str, _mac1: Any, _mac2: Any, node1: Node, node2: Node, **_: Any
    ) -> None:
        """Make the two ends, each in its node's namespace."""
        self.taps = (_tap(node1, name1), _tap(node2, name2))


def _tap(node: Node, name: str) -> Tap:
    namespace = Namespace(node.pid if node.inNamespace else None)
    try:
        return Tap(namespace, name)
    finally:
        namespace.close()


class FloodingBridge(LinuxBridge):  # type: ignore[misc]
    """A home router's switch: multicast goes to every port, and no timer of the kernel changes that."""

    def start(self, controllers: list[Any]) -> None:
        """Start the bridge without snooping and with a table that does not age."""
        super().start(controllers)
        self.cmd(
            f"ip link set {self.name} type bridge mcast_snooping 0 ageing_time 100000000 forward_delay 0"
        )


class Nodes:
    """The Mininet network under construction and while it runs."""

    def __init__(self) -> None:
        setLogLevel("error")
        Mininet.inited = True  # it would write kernel settings of the whole machine
        self.net = Mininet(topo=None, build=False, switch=FloodingBridge, controller=None, link=CarriedLink)
        self._home = Namespace()
        self._home_netlink = Netlink(self._home)
        self._home.settings({"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1})
        self._bridge = self.net.addSwitch(BRIDGE, dpid="1")
        self._ports = 0

    def host(self, name: str) -> int:
        """Add a host and return the process in whose namespace it lives."""
        pid: int = self.net.addHost(name, ip=None, mac=None).pid
        return pid

    def join_lan(self, name: str) -> tuple[Tap, Tap]:
        """Link a host's ``eth0`` to the bridge; return the host's end and the bridge's."""
        port = f"{BRIDGE}-eth{self._ports}"
        self._ports += 1
        node = self.net.get(name)
        link = self.net.addLink(node, self._bridge, cls=CarriedLink, intfName1="eth0", intfName2=port)
        taps: tuple[Tap, Tap] = link.taps
        return taps

    def port(self) -> Tap:
        """Add a port to the bridge whose cable leads out of the home."""
        name = f"{BRIDGE}-eth{self._ports}"
        self._ports += 1
        tap = _tap(self._bridge, name)
        TapInterface(name, node=self._bridge, moveIntfFn=lambda *_: None)
        return tap

    def outward(self, name: str, interface: str) -> Tap:
        """Give a host an interface whose other end is the loop itself."""
        node = self.net.get(name)
        tap = _tap(node, interface)
        TapInterface(interface, node=node, moveIntfFn=lambda *_: None)
        return tap

    def start(self) -> None:
        """Start the bridge and wait until it forwards on every port."""
        self.net.start()
        self._home_netlink.up("lo")
        for number in range(self._ports):
            self._home_netlink.up(f"{BRIDGE}-eth{number}")
        limit = time.monotonic() + _SETTLE_S
        while (up := str(self._bridge.cmd("bridge link")).count("state forwarding")) < self._ports:
            if time.monotonic() > limit:
                raise WorldError(
                    f"only {up} of {self._ports} ports of the bridge forward after {_SETTLE_S} s"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """Take the network down."""
        self.net.stop()
        self._home_netlink.close()
        self._home.close()
