"""The emulated world: devices, router and fake Internet as Mininet hosts, put together."""

from __future__ import annotations

import socket
from random import Random
from typing import TYPE_CHECKING

from testbed.emulation import frames, open_wifi
from testbed.emulation.device import INTERFACE, Device
from testbed.emulation.lan import Lan, Origins, Port
from testbed.emulation.links import Way
from testbed.emulation.nodes import SERVICE, Nodes
from testbed.emulation.router import WAN, Router
from testbed.emulation.servers import open_ports
from testbed.emulation.stations import Station
from testbed.emulation.tls import Certificates, played_as_12
from testbed.emulation.wan import GATEWAY, GATEWAY_MAC, Internet, Site
from testbed.models.device import TcpStack
from testbed.scenario.addresses import device_mac, fraction, lan_addresses, number
from testbed.services import ServiceContext
from testbed.services.home_names import HomeNames
from testbed.services.registry import build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from testbed.emulation.loop import Loop
    from testbed.emulation.namespaces import Tap
    from testbed.emulation.recorder import Recorder
    from testbed.emulation.servers import ConnectionPort, DatagramPort
    from testbed.emulation.stations import Interface
    from testbed.emulation.wire import Wire
    from testbed.host import Service, TlsHello
    from testbed.models import DeviceModel, Topology
    from testbed.scenario.events import EventLog
    from testbed.scenario.internet import Site as Place
    from testbed.services import Zone

_ROUTER_WAN = "198.18.0.2"
_SERVER_STACK = TcpStack(window=28_960, window_scale=7)
OF_A_DEVICE = "device"
"""Stands for the kind of a service that a device itself offers."""
_TTL_OF_ROUTER = 1
"""The router takes one from the TTL of what it forwards."""


class World:
    """Everything that runs in one emulation."""

    def __init__(
        self,
        loop: Loop,
        topology: Topology,
        models: Mapping[str, DeviceModel],
        sites: Sequence[Place],
        zone: Zone,
        recorder: Recorder,
        log: EventLog,
        begin_ns: int,
        seed: int,
        replaced: Set[str] = frozenset(),
        wires: Sequence[Wire] = (),
    ) -> None:
        """Build the network; `begin_ns` is the Unix time of the capture's start.

        A program stands in for each service that `replaced` names: it gets a host, but no service.
        The networks behind `wires` are joined to the LAN.
        """
        self.loop, self.topology = loop, topology
        self._models, self.zone, self.recorder, self._log = models, zone, recorder, log
        self._begin_ns, self._seed = begin_ns, seed
        self.macs = {d.name: device_mac(topology, d.name, models) for d in topology.devices}
        self.addresses = lan_addresses(topology, models)
        self.devices: dict[str, Device] = {}
        self.warnings: list[str] = []
        self.nodes = Nodes()
        self._stations: list[Station] = []
        self.ports: list[tuple[str, str, DatagramPort | ConnectionPort]] = []
        self._certificates = Certificates()
        self._names: dict[str, str] = {}
        self.internet = Internet(loop, Random(number(seed, "wan", "jitter")))
        self._replaced = replaced
        self._wires = wires
        self._behind: dict[str, tuple[Router, Origins]] = {}
        self._open_wifi: open_wifi.OpenWifi | None = None
        self._has_open_wifi = topology.open_wifi and any(
            models[device.model].link.open_wifi_after is not None for device in topology.devices
        )
        self.host_pids: dict[str, int] = {}
        self.service_pids: dict[str, int] = {}
        self._build(sites)

    # --- building ------------------------------------------------------------------------------

    def _build(self, sites: Sequence[Place]) -> None:
        topology, nodes = self.topology, self.nodes
        pids = {name: nodes.host(name) for name in self._host_names(sites)}
        self.host_pids = {name: pids[name] for name in (topology.router.name, *self.addresses)}
        self.service_pids = {name: pids[f"{SERVICE}{name}"] for name in self._services(sites)}
        router_taps = (*nodes.join_lan(topology.router.name), nodes.outward(topology.router.name, WAN))
        taps = {name: nodes.join_lan(name) for name in self.addresses}
        service_taps = {name: nodes.outward(f"{SERVICE}{name}", INTERFACE) for name in self._services(sites)}
        joins = [(wire, nodes.port()) for wire in self._wires]
        if self._has_open_wifi:
            outward = (nodes.outward(open_wifi.NAME, INTERFACE), nodes.outward(open_wifi.NAME, WAN))
        nodes.start()
        if self._has_open_wifi:
            self._build_open_wifi(pids[open_wifi.NAME], *outward, sites)
        self._build_router(pids[topology.router.name], *router_taps, sites)
        for wire, tap in joins:
            self.lan.join(wire, tap)
        for name, pid in pids.items():
            if name in taps:
                self._build_device(name, pid, *taps[name])
        for entry in topology.devices:
            if entry.name not in self.devices:
                self.devices[entry.name] = self._device(entry.name, entry.model)
            parent = entry.through or self._models[entry.model].link.through
            if parent is not None and parent in self.devices:
                self.devices[entry.name].parent = self.devices[parent]
        for name, tap in service_taps.items():
            station = self._station(f"{SERVICE}{name}", pids[f"{SERVICE}{name}"])
            mac = f"02:00:c6:13:{len(self._stations) >> 8:02x}:{len(self._stations) & 255:02x}"
            interface = station.attach(INTERFACE, mac, tap, self._draw(f"{SERVICE}{name}"))
            self._build_service(station, interface, [site for site in sites if site.entry.name == name])
        for station in self._stations:
            for interface in station.interfaces.values():
                interface.tap.read()  # what the kernel said while it was set up is not traffic

    def _host_names(self, sites: Sequence[Place]) -> list[str]:
        return [
            self.topology.router.name,
            *self.addresses,
            *(f"{SERVICE}{name}" for name in self._services(sites)),
            *([open_wifi.NAME] if self._has_open_wifi else []),
        ]

    @staticmethod
    def _services(sites: Sequence[Place]) -> list[str]:
        return list(dict.fromkeys(site.entry.name for site in sites))

    def _draw(self, *names: str) -> Callable[[int], float]:
        """Return what varies the lifetimes of an interface's neighbours."""
        return lambda index: fraction(self._seed, *names, "neighbours", index)

    def _station(self, name: str, pid: int) -> Station:
        station = Station(self.loop, name, pid)
        self._stations.append(station)
        return station

    def _device(self, name: str, model: str) -> Device:
        mac = self.macs[name] or "00:00:00:00:00:00"
        device = Device(
            self.loop, name, self._models[model], mac, self._seed, self.recorder, self._log, self._begin_ns
        )
        device.expect_tls = self._expect_tls
        return device

    def _expect_tls(self, peer: tuple[str, int], hello: TlsHello) -> None:
        self._certificates.expect(*peer, hello, self._names.get(peer[0], "nobody"))

    def _build_device(self, name: str, pid: int, tap: Tap, bridge: Tap) -> None:
        entry = next(device for device in self.topology.devices if device.name == name)
        device = self.devices[name] = self._device(name, entry.model)
        model = device.model
        station = self._station(name, pid)
        station.use_stack(model.tcp, model.ttl)
        interface = station.attach(INTERFACE, device.mac, tap, self._draw(name), model.link.arp_reachable)
        station.keep_tcp_timers(model.tcp, interface)
        device.plug_in(station, interface)
        self.recorder.station(name, interface.mac)
        way = Way(None, Random(number(self._seed, name, "loss")))
        device.port = Port(name, interface, bridge, round(model.link.delay * 1e9), way)
        self.lan.attach(device.port)
        if self._open_wifi is not None:
            self._open_wifi.attach(device.port)
        context = ServiceContext(name, self.addresses[name])
        for port in model.listens:
            service = build(port.service, port.options, context)
            self._open(station, name, OF_A_DEVICE, "0.0.0.0", port.port, service)

    def _build_router(self, pid: int, tap: Tap, bridge: Tap, outward: Tap, sites: Sequence[Place]) -> None:
        router = self.topology.router
        station = self._station(router.name, pid)
        lan = station.attach(INTERFACE, router.mac, tap, self._draw(router.name), router.arp_reachable)
        wan = station.attach(WAN, "02:00:c6:12:00:02", outward, self._draw(router.name, "wan"))
        upstream = self._upstream(sites)
        fixed = {
            mac: self.addresses[name] for name, mac in self.macs.items() if mac and name in self.addresses
        }
        options = {
            "lease": f"{router.dhcp.lease}s", "network": str(router.lan), "address": str(router.address),
            "first": router.dhcp.first, "size": router.dhcp.size, "fixed": fixed,
        }  # fmt: skip
        self.router = Router(
            self.loop, station, lan, wan, (str(router.address), router.lan.prefixlen), _ROUTER_WAN,
            build("dhcp_server", options, ServiceContext(router.name, str(router.address))), upstream,
            HomeNames(self.addresses),
        )  # fmt: skip
        self.lan = Lan(self.loop, self.recorder, lan, bridge)
        own = (str(router.address), _ROUTER_WAN)
        self.lan.router_addresses = frozenset(socket.inet_aton(address) for address in own)
        self.uplink = self.internet.uplink(_ROUTER_WAN, wan, self.topology.wan)
        self._behind[_ROUTER_WAN] = (self.router, self.lan.origins)

    def _build_open_wifi(self, pid: int, tap: Tap, outward: Tap, sites: Sequence[Place]) -> None:
        station = self._station(open_wifi.NAME, pid)
        lan = station.attach(INTERFACE, open_wifi.MAC, tap, self._draw(open_wifi.NAME))
        wan = station.attach(WAN, open_wifi.WAN_MAC, outward, self._draw(open_wifi.NAME, "wan"))
        options = {"network": open_wifi.NETWORK, "address": open_wifi.ROUTER}
        router = Router(
            self.loop, station, lan, wan, (open_wifi.ROUTER, open_wifi.PREFIX), open_wifi.WAN_ADDRESS,
            build("dhcp_server", options, ServiceContext(open_wifi.NAME)), self._upstream(sites),
            HomeNames({}),
        )  # fmt: skip
        self.internet.uplink(open_wifi.WAN_ADDRESS, wan, None)
        self._open_wifi = open_wifi.OpenWifi(self.loop, lan, Origins())
        self._behind[open_wifi.WAN_ADDRESS] = (router, self._open_wifi.origins)

    def _upstream(self, sites: Sequence[Place]) -> str | None:
        """Return the address of the ISP's resolver."""
        wanted = self.topology.router.dns.upstream
        return next((site.address for site in sites if site.entry.name == wanted), None)

    def _build_service(self, station: Station, interface: Interface, sites: Sequence[Place]) -> None:
        ttl = max(site.ttl for site in sites) + _TTL_OF_ROUTER
        station.use_stack(_SERVER_STACK, ttl)
        station.keep_tcp_timers(_SERVER_STACK, interface)
        netlink = station.netlink
        for site in sites:
            netlink.add_address(INTERFACE, site.address, 32)
            self._names[site.address] = site.entry.name
        netlink.set_neighbour(INTERFACE, GATEWAY, 0x80, frames.mac_bytes(GATEWAY_MAC))
        netlink.add_route(INTERFACE, "0.0.0.0", 0, GATEWAY, station.route_metrics)
        for site in sites:
            self.internet.server(
                site.address, Site(site.entry.name, interface, round(site.place.delay * 1e9))
            )
            for port in () if site.entry.name in self._replaced else site.entry.ports:
                self._open(station, site.entry.name, site.entry.service, site.address, port, site.service)

    def _open(
        self, station: Station, name: str, kind: str, address: str, port: int, service: Service
    ) -> None:
        opened = open_ports(
            self.loop, station, (address, port), service, self._origin, self._certificates
        )  # fmt: skip
        self.ports += [(name, kind, each) for each in opened]

    def _origin(self, protocol: int, peer: tuple[str, int], address: str, port: int) -> tuple[str, int]:
        """Return the client as servers tell clients apart: its own address, not the NAT's."""
        behind = self._behind.get(peer[0])
        if behind is None:
            return peer
        router, origins = behind
        if protocol == frames.UDP and peer[1] in router.forwarded:
            return router.forwarded[peer[1]]
        device = origins.find(protocol, peer[1], socket.inet_aton(address), port)
        return peer if device is None else (device, peer[1])

    def check(self) -> None:
        """Warn of what this world plays in another way than the models say."""
        old = sorted(device.name for device in self.devices.values() if played_as_12(device.model))
        if old:
            self.warnings.append(f"TLS below 1.2 is played as 1.2: {', '.join(old)}")

    @property
    def suppressed(self) -> int:
        """Frames of kernel timers that were held back."""
        return sum(station.tcp.suppressed for station in self._stations if station.tcp is not None)

    def close(self) -> None:
        """Take the network down."""
        self.lan.close()
        for station in self._stations:
            station.close()
