"""The hands on an emulated world: they play the timeline.

They switch power, move links, pull the uplink, take services down, deliver stimuli. Devices and
services are not told why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import run_device
from testbed.emulation.host import start_device
from testbed.emulation.servers import ConnectionPort
from testbed.emulation.world import OF_A_DEVICE
from testbed.errors import WorldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.emulation.device import Device
    from testbed.emulation.world import World
    from testbed.models.topology import Impairment
    from testbed.scenario.timeline import Happening, Timeline


class Hands:
    """Plays a timeline on a world."""

    def __init__(self, world: World, timeline: Timeline, begin_ns: int) -> None:
        """`begin_ns` is the Unix time of the capture's start."""
        self._world, self._timeline = world, timeline
        self._loop = world.loop
        self._begin_ns = begin_ns

    def start(self) -> None:
        """Put the world's hands to work."""
        timeline, loop = self._timeline, self._loop
        for moment in timeline.changes():
            if moment > timeline.begin_ns:
                loop.call_at(self._begin_ns + moment, lambda at=moment: self._change(at))  # type: ignore[misc]
        self._change(timeline.begin_ns)
        self._world.router.greet()
        for at in timeline.router_boots:
            loop.call_at(self._begin_ns + at, self._world.router.restart)
        for outage in timeline.outages:
            for at, begins in ((outage.begin, True), (outage.end, False)):
                loop.call_at(
                    self._begin_ns + at,
                    lambda o=outage, b=begins: self._outage(o.service, o.name, o.refused, b),  # type: ignore[misc]
                )
        for span in timeline.impaired:
            for at, begins in ((span.begin, True), (span.end, False)):
                loop.call_at(
                    self._begin_ns + at,
                    lambda s=span, b=begins: self._impair(s.device, s.link, b),  # type: ignore[misc]
                )
        for happening in timeline.happenings:
            loop.call_at(self._begin_ns + happening.at, lambda h=happening: self._happen(h))  # type: ignore[misc]
        querier = self._world.topology.router.igmp
        if querier is not None:
            boots_ns = [self._begin_ns + at for at in timeline.router_boots]
            name, lan = self._world.topology.router.name, self._world.lan
            querying = self._world.router.query_groups(
                querier, self._world.recorder, name, boots_ns, lambda: lan.running
            )
            loop.task(querying, f"{name}/igmp_querier")

    def _change(self, at: int) -> None:
        """Bring cable and router to what they are from this moment on."""
        self._world.lan.running = self._timeline.lan.at(at)
        self._world.router.set_uplink(self._timeline.uplink.at(at), self._world.uplink)

    def _outage(self, service: str | None, name: str | None, refused: bool, begins: bool) -> None:
        if name is not None:
            (self._world.zone.down_names.add if begins else self._world.zone.down_names.discard)(name.lower())
        if service is None:
            return
        kind = "resolver" if service == "dns" else service
        for known, its_kind, port in self._world.ports:
            if known != service and its_kind != kind:
                continue
            if not refused:
                (self._world.internet.silent.add if begins else self._world.internet.silent.discard)(known)
            elif begins:
                port.close()
            else:
                port.open()

    def _impair(self, device: str | None, link: Impairment, begins: bool) -> None:
        port = self._world.devices[device].port if device is not None else None
        if device is not None and port is None:
            return
        way = port.way if port is not None else self._world.uplink.way
        (way.add if begins else way.remove)(link)

    def _happen(self, happening: Happening) -> None:
        device = self._world.devices.get(happening.device)
        if device is None:
            raise WorldError(f"the timeline names an unknown device '{happening.device}'")
        if happening.kind == "power":
            self.switch(device, happening.value)
        elif happening.kind == "link":
            device.set_link(happening.value)
        elif happening.kind == "fail":
            self._fail(device, happening.value)
        else:
            self.stimulate(device, happening.kind, happening.value or None)

    def stimulate(self, device: Device, kind: str, value: object) -> None:
        """Let something happen to a device."""
        device.note("world", kind)
        device.board.stimulate(kind, value)

    def plug(self, device: Device, in_: bool) -> None:
        """Take a device's link away, or let it associate again."""
        if not in_:
            device.set_link("down")
            return

        def associate() -> None:
            if device.powered and not device.associated:
                device.set_link("home")

        self._loop.call_later(device.model.link.associate, associate)

    def power(self, device: Device, on: bool) -> None:
        """Switch a device, and its link with it."""
        if device.powered == on:
            return
        self.switch(device, on)
        if device.port is not None:
            self.plug(device, on)

    def switch(self, device: Device, on: bool) -> None:
        """Switch a device; its link is another happening of the timeline."""
        device.note("world", "power-on" if on else "power-off")
        device.powered = on
        if on:
            start_device(device, run_device)
            return
        if device.port is not None:
            device.port.link = "down"
            device.lose_connections()
            for owner, kind, port in self._world.ports:
                if (owner, kind) == (device.name, OF_A_DEVICE) and isinstance(port, ConnectionPort):
                    port.drop_connections()
        device.power_off()

    def _fail(self, device: Device, habits: Sequence[str]) -> None:
        """Let habits of a device die (its own fault, not the network's)."""
        device.note("world", "failure", why=", ".join(habits) or "everything")
        for path, task in list(device.tasks.items()):
            if not habits or path.split("/")[0].split("#")[0] in habits:
                task.cancel()
