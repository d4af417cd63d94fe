"""Whether a scenario, a topology and the device models fit together."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from testbed.errors import UserError, nearest
from testbed.models.problems import findings
from testbed.models.units import spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from testbed.models.data import Kind
    from testbed.models.device import DeviceModel
    from testbed.models.document import Document, Loc
    from testbed.models.scenario import Scenario, State
    from testbed.models.topology import Topology

_ALL_OF_A_KIND = ("dns", "ntp")
"""Words for `service` in a `service_down` event that mean every service of that kind."""


class Problem(NamedTuple):
    """Something that does not fit, and where it stands."""

    kind: Kind
    name: str
    loc: Loc
    message: str


def check(
    scenario: Scenario,
    topology: Topology,
    devices: Mapping[str, DeviceModel],
    services: Mapping[str, Any] | None = None,
    documents: Mapping[tuple[Kind, str], Document] | None = None,
) -> None:
    """Raise UserError when something names what does not exist, or cannot be.

    `devices` are the device models by name; `services` the known kinds of services with the types
    of their options (None leaves the kinds unchecked); `documents` the files, to give their lines.
    """
    found = [*_topology(topology, devices), *_scenario(scenario, topology, devices)]
    if services is not None:
        found += _service_kinds(topology, devices, services)
    if found:
        raise UserError("\n".join(_line(problem, documents or {}) for problem in found))


def _line(problem: Problem, documents: Mapping[tuple[Kind, str], Document]) -> str:
    document = documents.get((problem.kind, problem.name))
    if document is not None:
        return document.problem(problem.loc, problem.message)
    from testbed.models.document import key_path

    return f"{problem.kind} {problem.name}: {key_path(problem.loc)}: {problem.message}"


def _topology(topology: Topology, devices: Mapping[str, DeviceModel]) -> Iterator[Problem]:
    def problem(message: str, *loc: int | str) -> Problem:
        return Problem("topology", topology.name, loc, message)

    for part in ("devices", "places", "services"):
        for index, name in _repeated(item.name for item in getattr(topology, part)):
            yield problem(f"'{name}' is given twice", part, index, "name")
    places = {place.name for place in topology.places}
    services = {service.name for service in topology.services}
    hosts = {device.name: device for device in topology.devices}
    if topology.router.name in hosts:
        yield problem("is the name of a device, too", "router", "name")
    if topology.router.address not in topology.router.lan:
        yield problem(f"is outside the LAN {topology.router.lan}", "router", "address")
    if topology.router.dns.upstream not in services:
        known = nearest(topology.router.dns.upstream, services)
        yield problem(
            f"unknown service '{topology.router.dns.upstream}'; {known}", "router", "dns", "upstream"
        )
    for index, service in enumerate(topology.services):
        if service.place is not None and service.place not in places:
            yield problem(
                f"unknown place '{service.place}'; {nearest(service.place, places)}",
                "services",
                index,
                "place",
            )
        for at, name in enumerate(service.places):
            if name not in places:
                yield problem(
                    f"unknown place '{name}'; {nearest(name, places)}", "services", index, "places", at
                )
        if service.place is None and not service.places:
            yield problem("needs a place (or places)", "services", index)
    taken: dict[Any, str] = {topology.router.address: topology.router.name}
    macs: dict[str, str] = {topology.router.mac: topology.router.name}
    for index, device in enumerate(topology.devices):
        model = devices.get(device.model)
        if model is None:
            yield problem(
                f"unknown device model '{device.model}'; {nearest(device.model, devices)}",
                "devices",
                index,
                "model",
            )
            continue
        if device.ip is not None:
            if device.ip not in topology.router.lan:
                yield problem(f"{device.ip} is outside the LAN {topology.router.lan}", "devices", index, "ip")
            if device.ip in taken:
                yield problem(f"{device.ip} is the address of '{taken[device.ip]}'", "devices", index, "ip")
            taken[device.ip] = device.name
        if device.mac is not None:
            if device.mac in macs:
                yield problem(f"{device.mac} is the MAC of '{macs[device.mac]}'", "devices", index, "mac")
            macs[device.mac] = device.name
        yield from _child(topology, index, model, devices)
    able = {topology.router.name, *services}
    able |= {name for name, host in hosts.items() if _speaks_ip(devices.get(host.model))}
    for index, program in enumerate(topology.programs):
        if program.host not in able:
            yield problem(
                f"there is no host '{program.host}'; {nearest(program.host, able)}", "programs", index, "host"
            )


def _speaks_ip(model: DeviceModel | None) -> bool:
    return model is not None and model.link.through is None


def _child(
    topology: Topology, index: int, model: DeviceModel, devices: Mapping[str, DeviceModel]
) -> Iterator[Problem]:
    """Check that what speaks through a hub or phone has one, and that it speaks IP itself."""
    device = topology.devices[index]
    hosts = {other.name: other for other in topology.devices if other.name != device.name}
    if model.link.through is None:
        if device.through is not None:
            message = f"'{device.model}' speaks IP itself, it needs no hub"
            yield Problem("topology", topology.name, ("devices", index, "through"), message)
        return
    hub = device.through or next(
        (name for name, other in hosts.items() if other.model == model.link.through), None
    )
    if hub is None:
        message = f"'{device.name}' speaks through a '{model.link.through}', and there is none"
        yield Problem("topology", topology.name, ("devices", index), message)
    elif hub not in hosts:
        message = f"unknown device '{hub}'; {nearest(hub, hosts)}"
        yield Problem("topology", topology.name, ("devices", index, "through"), message)
    elif (hub_model := devices.get(hosts[hub].model)) is not None and hub_model.link.through is not None:
        message = f"'{hub}' does not speak IP, so nothing can speak through it"
        yield Problem("topology", topology.name, ("devices", index, "through"), message)


def _scenario(
    scenario: Scenario, topology: Topology, devices: Mapping[str, DeviceModel]
) -> Iterator[Problem]:
    def problem(message: str, *loc: int | str) -> Problem:
        return Problem("scenario", scenario.name, loc, message)

    hosts = {device.name: device for device in topology.devices}
    services = {service.name for service in topology.services}
    for index, event in enumerate(scenario.events):
        if event.at >= scenario.duration:
            yield problem(
                f"lies beyond the scenario's end ({spoken(scenario.duration)})", "events", index, "at"
            )
        if event.at < -scenario.warm_up:
            yield problem(
                f"lies before the warm-up begins (-{spoken(scenario.warm_up)})", "events", index, "at"
            )
        name = getattr(event, "device", None)
        if name is not None and name not in hosts:
            yield problem(f"unknown device '{name}'; {nearest(name, hosts)}", "events", index, "device")
        elif event.action == "fail" and (model := devices.get(hosts[event.device].model)) is not None:
            habits = {habit.name for habit in model.habits}
            for at, habit in enumerate(event.habits):
                if habit not in habits:
                    message = f"'{event.device}' has no habit '{habit}'; {nearest(habit, habits)}"
                    yield problem(message, "events", index, "habits", at)
        elif event.action == "service_down":
            known = services | set(_ALL_OF_A_KIND)
            if event.service is not None and event.service not in known:
                message = f"unknown service '{event.service}'; {nearest(event.service, known)}"
                yield problem(message, "events", index, "service")
            if (event.service is None) == (event.name is None):
                yield problem("needs either a service or a name", "events", index)
            names = {name for service in topology.services for name in service.names}
            if event.name is not None and event.name not in names:
                message = f"no service is called '{event.name}'; {nearest(event.name, names)}"
                yield problem(message, "events", index, "name")
    yield from _states(scenario, hosts)


def _states(scenario: Scenario, hosts: Iterable[str]) -> Iterator[Problem]:
    def problem(message: str, *loc: int | str) -> Problem:
        return Problem("scenario", scenario.name, ("states", *loc), message)

    known = set(hosts)
    for index, name in _repeated(state.name for state in scenario.states):
        yield problem(f"'{name}' is given twice", index, "name")
    for index, state in enumerate(scenario.states):
        if state.end <= state.begin:
            yield problem(
                f"ends at {spoken(state.end)}, not after its begin ({spoken(state.begin)})", index, "end"
            )
        if state.end > scenario.duration:
            yield problem(f"lies beyond the scenario's end ({spoken(scenario.duration)})", index, "end")
        if state.device is not None and state.device not in known:
            yield problem(f"unknown device '{state.device}'; {nearest(state.device, known)}", index, "device")
    ordered = sorted(enumerate(scenario.states), key=lambda item: item[1].begin)
    for (_, earlier), (index, later) in combinations(ordered, 2):
        if later.begin < earlier.end and _same_frames(earlier, later):
            yield problem(f"overlaps '{earlier.name}', which ends at {spoken(earlier.end)}", index, "begin")


def _same_frames(one: State, other: State) -> bool:
    """Tell whether a frame in both spans would have two states: a state of one device is its own."""
    return one.device is None or other.device is None or one.device == other.device


def _service_kinds(
    topology: Topology, devices: Mapping[str, DeviceModel], known: Mapping[str, Any]
) -> Iterator[Problem]:
    """Check kinds and options of the fake Internet's services and of what devices answer themselves."""
    used: list[tuple[Kind, str, Loc, str, Mapping[str, Any]]] = [
        ("topology", topology.name, ("services", index), service.service, service.options)
        for index, service in enumerate(topology.services)
    ]
    used += [
        ("device", model.name, ("listens", index), port.service, port.options)
        for model in devices.values()
        for index, port in enumerate(model.listens)
    ]
    for kind, name, loc, service, options in used:
        if service not in known:
            message = f"unknown kind of service '{service}'; {nearest(service, known)}"
            yield Problem(kind, name, (*loc, "service"), message)
        elif isinstance(known[service], type) and issubclass(known[service], BaseModel):
            try:
                known[service].model_validate(dict(options))
            except ValidationError as error:
                for path, message in findings(error, known[service], options):
                    yield Problem(kind, name, (*loc, "options", *path), message)


def _repeated(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        if seen[name]:
            yield index, name
        seen[name] += 1
