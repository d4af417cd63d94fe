"""All that a run needs, loaded and checked together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from testbed.errors import UserError, nearest
from testbed.models.check import check
from testbed.models.load import Loaded, catalogue, read_device, read_scenario, read_topology
from testbed.models.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.models.data import Kind
    from testbed.models.device import DeviceModel
    from testbed.models.document import Document
    from testbed.models.topology import Topology


class Setup(NamedTuple):
    """A scenario, the topology it plays on, and the models of its devices by name."""

    scenario: Scenario
    topology: Topology
    devices: dict[str, DeviceModel]


def load_setup(
    scenario: str | Path,
    topology: str | Path | None = None,
    folders: Sequence[str | Path] = (),
    services: Mapping[str, Any] | None = None,
) -> Setup:
    """Load a scenario and everything it names, and check that it fits together.

    `topology` replaces the scenario's own; `folders` are searched before the shipped data, and so is
    the folder of a scenario or topology given by its path. `services` are the kinds of services with
    the types of their options (None leaves them unchecked). Raises UserError.
    """
    folders = [*folders, *_beside(scenario), *_beside(topology)]
    played = read_scenario(scenario, folders)
    net = _topology(played, topology, folders)
    documents: dict[tuple[Kind, str], Document] = {
        ("scenario", played.model.name): played.document,
        ("topology", net.model.name): net.document,
    }
    devices = _devices(net, folders, documents)
    check(played.model, net.model, devices, services, documents)
    return Setup(played.model, net.model, devices)


def load_home(
    topology: str | Path,
    folders: Sequence[str | Path] = (),
    services: Mapping[str, Any] | None = None,
) -> tuple[Topology, dict[str, DeviceModel]]:
    """Load a topology and the models it names, without anything to play on it (see `load_setup`)."""
    folders = [*folders, *_beside(topology)]
    net = read_topology(topology, folders)
    documents: dict[tuple[Kind, str], Document] = {("topology", net.model.name): net.document}
    devices = _devices(net, folders, documents)
    nothing = Scenario.model_validate(
        {"name": "nothing", "title": "Nothing", "begin": "2018-04-03", "duration": "1s"}
    )
    check(nothing, net.model, devices, services, documents)
    return net.model, devices


def _devices(
    net: Loaded[Topology],
    folders: Sequence[str | Path],
    documents: dict[tuple[Kind, str], Document],
) -> dict[str, DeviceModel]:
    """Load the models of a topology's devices; their documents are added to `documents`."""
    known = catalogue("device", folders)
    devices: dict[str, DeviceModel] = {}
    for index, device in enumerate(net.model.devices):
        if device.model in devices:
            continue
        if device.model not in known:
            message = f"unknown device model '{device.model}'; {nearest(device.model, known)}"
            raise UserError(net.document.problem(("devices", index, "model"), message))
        loaded = read_device(known[device.model])
        devices[device.model] = loaded.model
        documents["device", device.model] = loaded.document
    return devices


def _topology(
    scenario: Loaded[Scenario], given: str | Path | None, folders: Sequence[str | Path]
) -> Loaded[Topology]:
    if given is not None:
        return read_topology(given, folders)
    name, known = scenario.model.topology, catalogue("topology", folders)
    if name not in known:
        message = f"unknown topology '{name}'; {nearest(name, known)}"
        raise UserError(scenario.document.problem(("topology",), message))
    return read_topology(known[name], folders)


def _beside(given: str | Path | None) -> list[Path]:
    """Return the folders in which a file given by its path may expect what it names."""
    if given is None or not Path(given).is_file():
        return []
    folder = Path(given).parent
    above = [folder.parent] if folder.name in ("scenarios", "topologies") else []
    above += [folder.parent.parent] if folder.parent.name == "topologies" else []
    return [folder, *above]
