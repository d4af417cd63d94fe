"""A home as an ordinary Mininet topology, for scripts of one's own and for ``mn --custom``.

The same names, addresses and places as in a run, over Mininet's own links, and no programs: no
device runs, nothing is captured, and like any Mininet network it lives among the machine's own
interfaces. `testbed.run` and `testbed shell` have a network of their own (`testbed.emulation.nodes`).

    lan (switch) -- devices' eth0          internet (switch) -- services' eth0
        |                                       |
        +----------- eth0 router wan0 ----------+
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mininet.node import Node
from mininet.topo import Topo

from testbed.emulation.nodes import SERVICE
from testbed.models.setup import load_home
from testbed.scenario.addresses import device_mac, internet_addresses, lan_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.models import DeviceModel, Topology

LAN, INTERNET = "lan", "internet"
_WAN_ADDRESS = "198.18.0.2"
_MASQUERADE = (
    "add table ip nat",
    "add chain ip nat postrouting { type nat hook postrouting priority 100 ; }",
    "add rule ip nat postrouting oifname wan0 masquerade",
)


class HomeTopo(Topo):  # type: ignore[misc]
    """A home: its devices and router on one switch, the fake Internet's servers on another.

    `names` has the addresses of each DNS name, `addresses` those of each host. With Mininet's TCLink
    links have the delays of the models and places; its plain Link has none.
    """

    def __init__(
        self, home: str | Path = "home", models: str | Path | Sequence[str | Path] = "", **options: Any
    ) -> None:
        """Load topology `home`, a name or a path; `models` are folders of one's own. Raises UserError."""
        folders = (models,) if isinstance(models, str | Path) else models
        self.home, self.models = load_home(home, [folder for folder in folders if folder != ""])
        self.names: dict[str, list[str]] = {}
        self.addresses: dict[str, list[str]] = {}
        super().__init__(**options)

    def build(self, **_: Any) -> None:
        """Lay the nodes and links out; called by Mininet."""
        home = self.home
        self.addSwitch(LAN, dpid="1")
        self.addSwitch(INTERNET, dpid="2")
        sites = internet_addresses(home)
        places = {place.name: place.delay for place in home.places}
        self._router(home, [address for found in sites.values() for address, _ in found])
        self._devices(home, self.models)
        for service in home.services:
            addresses = list(dict.fromkeys(address for address, _ in sites[service.name]))
            host = f"{SERVICE}{service.name}"
            self.addresses[host] = addresses
            self.names |= {name: addresses for name in service.names}
            self.addHost(host, cls=Server, ip=f"{addresses[0]}/32", others=addresses[1:])
            delay_s = min(places[place] for _, place in sites[service.name])
            self.addLink(host, INTERNET, intfName1="eth0", delay=_delay(delay_s))

    def _router(self, home: Topology, beyond: list[str]) -> None:
        router = home.router
        self.addresses[router.name] = [str(router.address), _WAN_ADDRESS]
        self.addHost(
            router.name, cls=HomeRouter, ip=f"{router.address}/{router.lan.prefixlen}", beyond=beyond
        )
        self.addLink(router.name, LAN, port1=0, intfName1="eth0", addr1=router.mac)
        self.addLink(router.name, INTERNET, port1=1, intfName1="wan0", delay=_delay(home.wan.delay))

    def _devices(self, home: Topology, models: dict[str, DeviceModel]) -> None:
        router = home.router
        addresses = lan_addresses(home, models)
        for device in home.devices:
            if device.name not in addresses:
                continue
            address = addresses[device.name]
            self.addresses[device.name] = [address]
            self.addHost(
                device.name, ip=f"{address}/{router.lan.prefixlen}", defaultRoute=f"via {router.address}"
            )
            delay_s = models[device.model].link.delay
            mac = device_mac(home, device.name, models)
            self.addLink(device.name, LAN, intfName1="eth0", addr1=mac, delay=_delay(delay_s))


def _delay(seconds: float) -> str:
    return f"{seconds * 1000:g}ms"


class HomeRouter(Node):  # type: ignore[misc]
    """A Linux router that translates (nftables) between ``eth0`` and ``wan0``."""

    def config(self, beyond: Sequence[str] = (), **params: Any) -> Any:
        """Give both sides their addresses, and ways to the servers at the addresses `beyond`."""
        result = super().config(**params)
        self.cmd("sysctl -q -w net.ipv4.ip_forward=1")
        self.cmd(f"ip addr add {_WAN_ADDRESS}/32 dev wan0 && ip link set wan0 up")
        for address in dict.fromkeys(beyond):
            self.cmd(f"ip route add {address} dev wan0")
        for rule in _MASQUERADE:
            self.cmd(f"nft '{rule}'")
        return result


class Server(Node):  # type: ignore[misc]
    """A host of the fake Internet with one address or several."""

    def config(self, others: Sequence[str] = (), **params: Any) -> Any:
        """Add the `others`, and the way to the home."""
        result = super().config(**params)
        for address in others:
            self.cmd(f"ip addr add {address}/32 dev eth0")
        self.cmd(f"ip route add {_WAN_ADDRESS} dev eth0 && ip route add default via {_WAN_ADDRESS}")
        return result


topos = {"home": HomeTopo}
"""For ``mn --custom FILE --topo home``."""
