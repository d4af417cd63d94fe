"""A device alone on a real interface, in real time: to load a real lab, or to put it to a test.

The device lives in namespaces of the run's own, on a TAP interface whose cable leads to a packet
socket on the real one (`testbed.emulation.wire`). So the machine keeps its addresses, routes and
rules, the device has its own MAC on the real network, and all is gone when the run ends.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from testbed.behaviours import run_device
from testbed.emulation import frames
from testbed.emulation.device import INTERFACE, Device
from testbed.emulation.host import start_device
from testbed.emulation.isolate import isolated
from testbed.emulation.loop import NS, Loop
from testbed.emulation.namespaces import Namespace, Tap
from testbed.emulation.recorder import Recorder
from testbed.emulation.requirements import require_for_lone_device
from testbed.emulation.servers import open_ports
from testbed.emulation.stations import Station
from testbed.emulation.tls import Certificates, played_as_12
from testbed.emulation.wire import Wire
from testbed.errors import UserError, WorldError
from testbed.models.scenario import Scenario
from testbed.models.topology import HomeDevice, Topology
from testbed.scenario.addresses import device_mac, fraction
from testbed.scenario.events import EventLog
from testbed.scenario.manifest import write_manifest
from testbed.services import ServiceContext
from testbed.services.registry import build

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host import Lease
    from testbed.models import DeviceModel

_TELLS_EVERY_S = 0.2
_LOOKS_AT_CABLE_EVERY_S = 1.0
_NO_END_S = 100 * 365 * 86_400.0
_DHCP_HARDWARE = slice(14 + 20 + 8 + 28, 14 + 20 + 8 + 34)
_ANY = "0.0.0.0"
_LAB, _ROUTER, _NOBODY = "lab", "router", "00:00:00:00:00:00"


class Stay(NamedTuple):
    """What a device's time on a real network came to."""

    mac: str
    frames: int
    bytes: int
    duration_s: float
    leased: bool
    """Whether it had a lease at any time."""
    complete: bool
    """False when its interface went away."""
    warnings: tuple[str, ...]


def run_alone(
    model: DeviceModel,
    interface: str,
    *,
    name: str | None = None,
    mac: str | None = None,
    seed: int = 1,
    out: Path | None = None,
    for_s: float | None = None,
    authorities: str | None = None,
    told: Callable[[list[str]], None] = lambda _: None,
    stop: Callable[[], bool] | None = None,
) -> Stay:
    """Be the device on `interface` until `stop()` or for `for_s` seconds; needs Linux and root.

    Its MAC follows from its `name` (its model's by default) unless given. It takes whatever lease the
    network's DHCP server gives, and asks that lease's resolvers. Servers' certificates are verified
    against `authorities` (PEM), or not at all. `out`, an existing folder, gets the capture of its own
    frames, their labels and the event log; `told` hears each line of that log soon after.
    Raises UserError for an interface or a device that cannot be, WorldError when the machine lacks
    something.
    """
    if model.oui is None:
        via = f"through its {model.link.through}" if model.link.through else f"by {model.link.medium} only"
        raise UserError(f"{model.name} has no network interface: it speaks {via}")
    require_for_lone_device()
    entry = HomeDevice(name=name or model.name, model=model.name, mac=mac)
    own_mac = device_mac(_lab(entry), entry.name, {model.name: model})
    assert own_mac is not None
    wire = Wire(interface, own_mac)
    try:
        stay: Stay = isolated(
            _Alone(model, entry, own_mac, interface, wire.fd, seed, out, for_s, authorities),
            told, stop, keep=(wire.fd,),
        )  # fmt: skip
    finally:
        wire.socket.close()
    return stay


@dataclass(frozen=True)
class _Alone:
    """Which device is to be where; goes to the process in the run's namespaces."""

    model: DeviceModel
    entry: HomeDevice
    mac: str
    interface: str
    wire_fd: int
    seed: int
    out: Path | None
    for_s: float | None
    authorities: str | None

    def play(self, tell: Callable[[Any], None], stop: Callable[[], bool]) -> Stay:
        """Be the device in this process, whose network namespace must be its own."""
        return _Life(self).live(tell, stop)


class _Life:
    """The device, its link to the real interface, and what is written down."""

    def __init__(self, plan: _Alone) -> None:
        self._plan = plan
        model, name = plan.model, plan.entry.name
        begin_ns = time.time_ns()
        self._begin = datetime.fromtimestamp(begin_ns // NS, UTC)
        self._begin_ns = begin_ns // NS * NS
        self._end_ns = begin_ns + round((plan.for_s if plan.for_s is not None else _NO_END_S) * NS)
        self._loop = loop = Loop(begin_ns, real=True)
        self._log = EventLog(
            plan.out / "events.jsonl" if plan.out is not None else Path(os.devnull), self._begin
        )
        self._recorder = Recorder(
            plan.out / "capture.pcap" if plan.out is not None else None,
            plan.out / "labels.parquet" if plan.out is not None else None,
            (), self._begin_ns, self._end_ns, _ROUTER, _NOBODY,
        )  # fmt: skip
        self._wire = Wire(plan.interface, plan.mac, socket.socket(fileno=plan.wire_fd))
        self._mac = frames.mac_bytes(plan.mac)
        self._router_mac: str | None = None
        self._had: Lease | None = None
        self._warnings: list[str] = []
        self._lost: str | None = None
        self._device = self._build(model, name)
        if played_as_12(model):
            self._warnings.append("TLS below 1.2 is played as 1.2")
        loop.watch(self._wire.fd, self._heard)

    def _build(self, model: DeviceModel, name: str) -> Device:
        plan, loop = self._plan, self._loop
        device = Device(
            loop, name, model, plan.mac, plan.seed, self._recorder, self._log, self._begin_ns
        )  # fmt: skip
        device.expect_tls = lambda _peer, _hello: None
        device.authorities = plan.authorities
        namespace = Namespace()
        station = Station(loop, name, os.getpid())
        station.use_stack(model.tcp, model.ttl)
        tap = Tap(namespace, INTERFACE)

        def lifetime(index: int) -> float:
            return fraction(plan.seed, name, "neighbours", index)

        interface = station.attach(INTERFACE, plan.mac, tap, lifetime, model.link.arp_reachable)
        interface.cable = self._sent
        device.plug_in(station, interface)
        self._recorder.station(name, interface.mac)
        certificates = Certificates()
        for port in model.listens:
            service = build(port.service, port.options, ServiceContext(name, _ANY))
            open_ports(loop, station, (_ANY, port.port), service, lambda _, peer, *__: peer, certificates)
        return device

    # --- the cable -----------------------------------------------------------------------------

    def _sent(self, frame: bytes) -> None:
        if self._device.associated:
            self._recorder.frame(self._loop.now_ns, frame)
            self._wire.write(frame)

    def _heard(self) -> None:
        for frame in self._wire.read():
            if not self._device.associated:
                continue
            self._learn(frame)
            if frame[:6] == self._mac or (
                frames.is_dhcp_answer(frame) and frame[_DHCP_HARDWARE] == self._mac
            ):  # fmt: skip
                self._recorder.frame(self._loop.now_ns, frame)
            self._device.interface.receive(frame)

    def _learn(self, frame: bytes) -> None:
        """Note the router's hardware address, for `run.json`."""
        lease = self._device.lease
        if lease is not None and frames.kind(frame)[0] == frames.ARP:
            _, mac, sender, _ = frames.arp_fields(frame)
            if sender == socket.inet_aton(lease.router):
                self._router_mac = mac.hex(":")

    def _look_at_cable(self) -> None:
        """Let the device notice that the real interface lost its cable, or got it back."""
        device, loop = self._device, self._loop
        try:
            carrier = self._wire.carrier()
        except WorldError as problem:
            self._lost = str(problem)
            loop.stop()
            return
        if carrier and not device.associated:
            device.set_link("home")
        elif not carrier and device.associated:
            device.set_link("down")
        pause_s = _LOOKS_AT_CABLE_EVERY_S
        if not carrier:  # once it is back, the device takes its time to associate
            pause_s = max(pause_s, self._plan.model.link.associate)
        loop.call_later(pause_s, self._look_at_cable)

    # --- its time ------------------------------------------------------------------------------

    def live(self, tell: Callable[[Any], None], stop: Callable[[], bool]) -> Stay:
        """Switch the device on, and be it until the end; the files are whole when this returns."""
        device, loop, log = self._device, self._loop, self._log
        told_s = time.monotonic()

        def should_stop() -> bool:
            nonlocal told_s
            if log.lines and time.monotonic() - told_s > _TELLS_EVERY_S:
                told_s = time.monotonic()
                self._keep(tell)
            return stop()

        device.powered = True
        device.note("world", "power-on")
        start_device(device, run_device)
        loop.call_later(self._plan.model.link.associate, self._look_at_cable)
        loop.start()
        try:
            loop.run(self._end_ns, should_stop)
        finally:
            self._keep(tell)
            log.close()
            self._recorder.close()
        return self._told()

    def _keep(self, tell: Callable[[Any], None]) -> None:
        """Write down and tell what happened since the last time."""
        self._had = self._device.lease or self._had
        if self._log.lines:
            tell(list(self._log.lines))
        self._log.flush()

    def _told(self) -> Stay:
        plan, recorder = self._plan, self._recorder
        duration_s = (self._loop.now_ns - self._begin_ns) / NS
        if self._lost is not None:
            self._warnings.append(self._lost)
        if plan.out is not None:
            self._write_manifest(plan.out, duration_s)
        return Stay(
            plan.mac, recorder.frames, recorder.bytes, duration_s, self._had is not None,
            self._lost is None, tuple(self._warnings),
        )  # fmt: skip

    def _write_manifest(self, out: Path, duration_s: float) -> None:
        plan, lease = self._plan, self._had
        scenario = Scenario.model_validate(
            {"name": "alone", "title": f"{plan.model.title}, alone on {plan.interface}", "topology": _LAB,
             "begin": self._begin, "duration": f"{max(duration_s, 1):f}s", "warm_up": 0}
        )  # fmt: skip
        router: dict[str, str | None] = {"name": _ROUTER, "mac": self._router_mac, "ip": None, "lan": None}
        if lease is not None:
            router["ip"] = lease.router
            router["lan"] = str(IPv4Network((lease.address, lease.prefix), strict=False))
        write_manifest(
            out / "run.json", scenario=scenario, topology=_lab(plan.entry),
            models={plan.model.name: plan.model}, macs={plan.entry.name: plan.mac},
            addresses={plan.entry.name: lease.address} if lease is not None else {}, sites=(),
            seed=plan.seed, world="emulation", clock="real", until_s=duration_s,
            complete=self._lost is None, frames=self._recorder.frames, warnings=self._warnings, router=router,
        )  # fmt: skip


def _lab(entry: HomeDevice) -> Topology:
    return Topology(name=_LAB, title="A real network", devices=(entry,))
