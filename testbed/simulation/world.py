"""The simulated world: devices, router and fake Internet, and the hands that act on them.

The world plays the timeline: it switches power, moves links, delivers stimuli, and lets the router
query groups. Devices and services are not told why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import run_device
from testbed.errors import WorldError
from testbed.host import About
from testbed.models.device import TcpStack
from testbed.protocols import igmp
from testbed.scenario.addresses import device_mac, lan_addresses
from testbed.services import ServiceContext, Zone
from testbed.services.dhcp_server import DhcpServer
from testbed.services.home_names import HomeNames
from testbed.services.registry import build
from testbed.simulation import neighbours
from testbed.simulation import tape as t
from testbed.simulation.conditions import Conditions, Server
from testbed.simulation.host import SimHost, start_device
from testbed.simulation.library import Library
from testbed.simulation.network import Network, Station
from testbed.simulation.node import Node
from testbed.simulation.plans import Stack
from testbed.simulation.waiting import Clock, pause
from testbed.simulation.wire import group_mac, ip_number, mac_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from testbed.models import DeviceModel, Topology
    from testbed.scenario.internet import Site
    from testbed.scenario.timeline import Happening, Timeline
    from testbed.simulation.journal import Journal

ALL_SYSTEMS = "224.0.0.1"
STARTUP_QUERIES = 2
OPEN_WIFI, OPEN_WIFI_ROUTER = "192.168.200.0/24", "192.168.200.1"


class World:
    """Everything that runs in one simulation."""

    def __init__(
        self,
        topology: Topology,
        models: Mapping[str, DeviceModel],
        timeline: Timeline,
        sites: Sequence[Site],
        zone: Zone,
        log: Journal,
        begin: datetime,
        seed: int,
    ) -> None:
        self.topology, self.timeline, self.zone, self.log = topology, timeline, zone, log
        self.env = Clock(initial_time=timeline.begin_ns)
        self.macs = {d.name: device_mac(topology, d.name, models) for d in topology.devices}
        self.addresses = lan_addresses(topology, models)
        conditions = Conditions(timeline, topology.wan)
        router = topology.router
        self.dhcp = self._dhcp_server(str(router.address))
        gateway = Server(
            router.name,
            str(router.address),
            ip_number(str(router.address)),
            delay_ns=0,
            ttl=64,
            ports={67: self.dhcp},
            mac_int=mac_number(router.mac),
        )
        servers = {gateway.address: gateway} | {site.address: _server(site) for site in sites}
        server_stack = Stack.of(TcpStack(window=28_960, window_scale=7))
        self.network = Network(
            self.env, topology, conditions, servers, log, round(begin.timestamp()), server_stack, seed
        )
        self.network.home_names = HomeNames(self.addresses)
        self.network.library = Library(self.network.tape, server_stack)
        upstream = next((s for s in sites if s.entry.name == router.dns.upstream), None)
        if upstream is not None:
            self.network.upstream = servers[upstream.address]
        self.nodes: dict[str, Node] = {}
        for device in topology.devices:
            model = models[device.model]
            mac = self.macs[device.name] or "00:00:00:00:00:00"
            self.nodes[device.name] = Node(device.name, model, mac, seed)
        for device in topology.devices:
            through = device.through or models[device.model].link.through
            if through is not None and through in self.nodes:
                self.nodes[device.name].parent = self.nodes[through]
        self._local_services(models)
        if topology.open_wifi:
            options = {"network": OPEN_WIFI, "address": OPEN_WIFI_ROUTER}
            dhcp = build("dhcp_server", options, ServiceContext("open-wifi"))
            address = ip_number(OPEN_WIFI_ROUTER)
            self.network.elsewhere = Server("open-wifi", OPEN_WIFI_ROUTER, address, 0, 64, {67: dhcp})

    def start(self) -> None:
        """Put the world's hands to work."""
        self.env.task(self._play(self.timeline.happenings))
        self.env.task(self._restart_router())
        self.env.task(self._outages())
        if self.topology.router.igmp is not None:
            self.env.task(self._query_groups())

    def _dhcp_server(self, address: str) -> DhcpServer:
        router = self.topology.router
        fixed = {
            mac: self.addresses[name] for name, mac in self.macs.items() if mac and name in self.addresses
        }
        options = {
            "lease": f"{router.dhcp.lease}s", "network": str(router.lan), "address": address,
            "first": router.dhcp.first, "size": router.dhcp.size, "fixed": fixed,
        }  # fmt: skip
        server = build("dhcp_server", options, ServiceContext(router.name, address))
        assert isinstance(server, DhcpServer)
        return server

    def _local_services(self, models: Mapping[str, DeviceModel]) -> None:
        """Let devices that serve others be found at their addresses."""
        for name, node in self.nodes.items():
            if not node.model.listens or name not in self.addresses:
                continue
            address = self.addresses[name]
            context = ServiceContext(name, address)
            ports = {port.port: build(port.service, port.options, context) for port in node.model.listens}
            self.network.servers[address] = Server(
                name,
                address,
                ip_number(address),
                0,
                node.model.ttl,
                ports,
                station=node,
                mac_int=node.mac_int,
            )

    # --- hands ----------------------------------------------------------------------------

    async def _play(self, happenings: Sequence[Happening]) -> None:
        env = self.env
        for happening in happenings:
            if happening.at > env.now:
                await pause(env, happening.at - env.now)
            node = self.nodes.get(happening.device)
            if node is None:
                raise WorldError(f"the timeline names an unknown device '{happening.device}'")
            if happening.kind == "power":
                self._power(node, happening.value)
            elif happening.kind == "link":
                self._link(node, happening.value)
            elif happening.kind == "fail":
                self._fail(node, happening.value)
            else:
                self.log.note(env.now, node.name, "world", happening.kind)
                node.board.stimulate(happening.kind, happening.value or None)

    def _power(self, node: Node, on: bool) -> None:
        self.log.note(self.env.now, node.name, "world", "power-on" if on else "power-off")
        if on:
            node.powered = True
            node.boots += 1
            node.stamp = node.rng.getrandbits(31)
            start_device(SimHost(self.network, node, ""), run_device)
            return
        node.powered = False
        for process in list(node.tasks.values()):
            if process.is_alive:
                process.interrupt()
        for stream in list(node.streams):
            stream.vanish(self.env.now)
        node.tasks.clear()
        node.query_waiters.clear()
        node.lease, node.ip = None, 0
        node.board = type(node.board)()
        neighbours.forget(node)

    def _link(self, node: Node, state: str) -> None:
        now = self.env.now
        node.link = state
        node.link_until = self.timeline.link[node.name].next_change(now)
        self.log.note(
            now, node.name, "world", "link", {"home": "up", "open": "up"}.get(state, "down"), why=state
        )
        for stream in list(node.streams):
            stream.vanish(now)
        neighbours.forget(node)
        if node.powered:
            if state == "down":
                SimHost(self.network, node, "").configure(None)
            node.board.set("associated", state != "down")

    def _fail(self, node: Node, habits: Sequence[str]) -> None:
        """Let habits of a device die (its own fault, not the network's)."""
        self.log.note(self.env.now, node.name, "world", "failure", why=", ".join(habits) or "everything")
        for path, process in list(node.tasks.items()):
            if process.is_alive and (not habits or path.split("/")[0].split("#")[0] in habits):
                process.interrupt()

    async def _restart_router(self) -> None:
        """A restarted router has forgotten its leases and its neighbours."""
        for at in self.timeline.router_boots:
            await pause(self.env, at - self.env.now)
            self.dhcp.forget()
            for node in self.nodes.values():
                neighbours.forgotten_by_router(node)

    async def _outages(self) -> None:
        """Take DNS names down and up again."""
        moments = sorted(
            (at, begins, outage.name.lower())
            for outage in self.timeline.outages
            if outage.name
            for at, begins in ((outage.begin, True), (outage.end, False))
        )
        for at, begins, name in moments:
            await pause(self.env, max(0, at - self.env.now))
            (self.zone.down_names.add if begins else self.zone.down_names.discard)(name)

    async def _query_groups(self) -> None:
        """Be the IGMP querier of the LAN (RFC 2236 §3): general queries, faster at first."""
        querier = self.topology.router.igmp
        assert querier is not None
        network, env = self.network, self.env
        message = igmp.query(version=querier.version, max_response_s=querier.max_response)
        label = network.label(network.router_name, "igmp_querier", About("IGMP", ALL_SYSTEMS))
        interval = round(querier.interval * 1e9)
        group = Station(group_mac(ip_number(ALL_SYSTEMS)), ip_number(ALL_SYSTEMS))
        starts = [env.now, *self.timeline.router_boots]
        exchange = 0
        due = env.now
        startup = STARTUP_QUERIES
        while True:
            await pause(env, due - env.now)
            booted = next((at for at in starts if at > env.now), None)
            if network.conditions.lan_up(env.now):
                exchange += 1
                network.record(
                    env.now, label, exchange, 0, network.router, group,
                    t.meta(t.IGMP, 1, t.DONT_FRAGMENT | t.ROUTER_ALERT), message,
                )  # fmt: skip
                for node in self.nodes.values():
                    if node.link == "home" and node.query_waiters:
                        self._deliver(node, message)
            startup = max(0, startup - 1)
            due = env.now + (interval // 4 if startup else interval)
            if booted is not None and booted <= due:
                due, startup = booted, STARTUP_QUERIES

    def _deliver(self, node: Node, message: bytes) -> None:
        waiters, node.query_waiters = node.query_waiters, []

        def arrive(_: object) -> None:
            for waiter in waiters:
                if not waiter.triggered:
                    waiter.succeed(message)

        timer = self.env.timeout(node.lan_ns)
        assert timer.callbacks is not None
        timer.callbacks.append(arrive)


def _server(site: Site) -> Server:
    """Return an address of the fake Internet as the network knows it."""
    return Server(
        site.entry.name,
        site.address,
        ip_number(site.address),
        delay_ns=round(site.place.delay * 1e9),
        ttl=site.ttl,
        ports=dict.fromkeys(site.entry.ports, site.service),
        kinds=frozenset({site.entry.service, *_aliases(site)}),
        host_name=site.entry.names[0] if site.entry.names else "localhost",
    )


def _aliases(site: Site) -> tuple[str, ...]:
    """Words by which a whole kind of service can be taken down."""
    return ("dns",) if site.entry.service == "resolver" else ()
