"""Writes the reference pages: every command with its options, every key of every kind of file.

They come from the code itself, so they cannot be wrong about what is there; run by Sphinx at each build.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import click
from pydantic_core import PydanticUndefined

from testbed.cli import VERBS, cli
from testbed.models.base import CONFIDENCES, Model
from testbed.models.device import DeviceModel, Habit
from testbed.models.habits import HABITS
from testbed.models.load import catalogue, load_device, load_scenario, load_topology
from testbed.models.scenario import Scenario
from testbed.models.topology import Topology
from testbed.models.units import as_written, quantity, spoken
from testbed.services.registry import KINDS

_INTRODUCTIONS = {
    "device": "A device model is one YAML file: who the device is on the network, and its list of habits. "
    "Every number needs an entry in the `sources` of its block.",
    "topology": "A topology is the whole network: devices, the router, the WAN, and the fake Internet "
    "behind it.",
    "scenario": "A scenario says what happens to a topology, and when. All times count from the start of the "
    "capture.",
}


def pages() -> dict[str, str]:
    """Return the text of each page."""
    return {
        "cli": _commands(),
        "shipped": _shipped(),
        "device": _kind("device", DeviceModel),
        "habits": _habits(),
        "topology": _kind("topology", Topology),
        "services": _services(),
        "scenario": _kind("scenario", Scenario),
    }


def write(folder: Path) -> None:
    """Write all pages into `folder`; files that would not change are left alone."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _commands() -> str:
    context = click.Context(cli, info_name="testbed", max_content_width=90, terminal_width=90)
    parts = ["# Commands", ""]
    for verb, summary in VERBS.items():
        command = cli.get_command(context, verb)
        assert command is not None
        text = command.get_help(click.Context(command, info_name=verb, parent=context, terminal_width=90))
        parts += [f"## testbed {verb}", "", summary, "", "```text", text, "```", ""]
    parts += [
        "Exit codes: 0 done; 1 failed; 2 the user's mistake; 3 `analyse` stopped early in a damaged file.",
        "",
    ]
    return "\n".join(parts)


def _kind(kind: str, model: type[Model]) -> str:
    parts = [f"# Keys of a {'device model' if kind == 'device' else kind}", "", _INTRODUCTIONS[kind], ""]
    parts += [f"`testbed schema {kind}` prints a JSON schema for editors.", ""]
    for part in _reachable(model):
        parts += _section(part, "##")
    return "\n".join(parts)


def _habits() -> str:
    parts = ["# Habits", "", "What a device can do, and the keys of each. Every habit also has these:", ""]
    parts += _table(Habit, set())
    inherited = set(Habit.model_fields)
    pieces: list[type[Model]] = []
    for name, habit in HABITS.items():
        parts += [f"## {name}", "", _words(habit.__doc__), "", *_table(habit, inherited)]
        pieces += [part for part in _reachable(habit)[1:] if part not in pieces]
    for piece in pieces:
        parts += _section(piece, "##")
    return "\n".join(parts)


def _services() -> str:
    parts = ["# Services", "", "What can answer in the fake Internet, or on a device's own port, and the", ""]
    parts[2] += " `options` of each kind."
    pieces: list[type[Model]] = []
    for name, options in KINDS.items():
        parts += [f"## {name}", "", _words(options.__doc__), "", *_table(options, set())]
        pieces += [part for part in _reachable(options)[1:] if part not in pieces]
    for piece in pieces:
        parts += _section(piece, "##")
    return "\n".join(parts)


def _shipped() -> str:
    """Describe the devices, topologies and scenarios that come with the package."""
    parts = ["# Shipped devices, topologies and scenarios", "", "## Devices", ""]
    parts += [
        "How well the numbers of a model are known: how many of its parameters the paper gives, a public "
        "capture shows (cap), a document gives (doc), were inferred from those (inf), or follow a standard "
        "(std); the others are assumed. `testbed show device NAME` prints every one of them.",
        "",
        f"| device | vendor | what it is | link | {' | '.join(CONFIDENCES)} |",
        f"| --- | --- | --- | --- |{' --- |' * len(CONFIDENCES)}",
    ]
    devices = [load_device(file) for file in catalogue("device").values()]
    for device in devices:
        counts = _confidences(device)
        through = f" through `{device.link.through}`" if device.link.through else ""
        numbers = " | ".join(str(counts[word]) for word in CONFIDENCES)
        who = f"`{device.name}` | {device.vendor} | {device.title}"
        parts.append(f"| {who} | {device.link.medium}{through} | {numbers} |")
    parts += ["", "What the models do not reproduce:", ""]
    parts += [f"- `{device.name}`: {text}" for device in devices for text in device.limits]
    parts += ["", "## Topologies", "", "| topology | what it is | devices | services |"]
    parts += ["| --- | --- | --- | --- |"]
    for topology in map(load_topology, catalogue("topology").values()):
        row = (f"`{topology.name}`", topology.title, str(len(topology.devices)), str(len(topology.services)))
        parts.append(f"| {' | '.join(row)} |")
    parts += [
        "",
        "## Scenarios",
        "",
        "| scenario | what it is | lasts | states |",
        "| --- | --- | --- | --- |",
    ]
    for scenario in map(load_scenario, catalogue("scenario").values()):
        row = (f"`{scenario.name}`", scenario.title, spoken(scenario.duration), str(len(scenario.states)))
        parts.append(f"| {' | '.join(row)} |")
    return "\n".join([*parts, ""])


def _confidences(model: Model) -> Counter[str]:
    """Count the parameters of a model, and of all in it, by how well they are known."""
    counts: Counter[str] = Counter()
    for key, source in getattr(model, "sources", {}).items():
        counts[source.partition(":")[0]] += len(key.split(","))
    for name in type(model).model_fields:
        value = getattr(model, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Model):
                counts += _confidences(part)
    return counts


def _section(model: type[Model], level: str) -> list[str]:
    action = model.model_fields.get("action")
    title = model.__name__ if action is None else f"`action: {get_args(action.annotation)[0]}`"
    return [f"{level} {title}", "", _words(model.__doc__), "", *_table(model, {"action"})]


def _table(model: type[Model], leave_out: set[str]) -> list[str]:
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name in leave_out or name == "sources":
            continue
        default = _default(field)
        rows.append(f"| `{name}` | {_type(field)} | {default} | {_words(field.description)} |")
    return [*rows, ""] if len(rows) > 2 else ["No keys of its own.", ""]


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or isinstance(value, Model):
        return "see there"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | dict):
        return f"`[{', '.join(map(str, value))}]`" if value else "empty"
    return f"`{as_written(value, field)}`"


def _type(field: Any) -> str:
    """Name a field's type as a reader of YAML thinks of it."""
    if (named := quantity(field)) is not None:
        return named
    return _annotated(field.annotation)


def _annotated(annotation: Any) -> str:
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            return f"keys of {annotation.__name__}"
        return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
            annotation.__name__, annotation.__name__
        )
    parts = [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if parts and all(isinstance(part, str | int) for part in parts):
        return " or ".join(f"`{part}`" for part in parts)
    if getattr(annotation, "__origin__", None) is tuple:
        return "list of " + _annotated(parts[0])
    if getattr(annotation, "__origin__", None) is dict:
        return "keys with values"
    if hasattr(annotation, "__metadata__"):
        return quantity(annotation) or _annotated(parts[0])
    kinds = [
        part for part in parts if isinstance(part, type) and "action" in getattr(part, "model_fields", ())
    ]
    if kinds:
        return "one of the actions"
    return " or ".join(dict.fromkeys(_annotated(part) for part in parts if _is_type(part))) or "any"


def _is_type(part: Any) -> bool:
    return isinstance(part, type | str | int) or hasattr(part, "__origin__") or bool(get_args(part))


def _reachable(model: type[Model]) -> list[type[Model]]:
    """Return the model and every model that its fields lead to, in order; habits have their own page."""
    found: list[type[Model]] = []

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, Model):
            if annotation not in found and annotation is not Habit:
                found.append(annotation)
                for field in annotation.model_fields.values():
                    visit(field.annotation)
            return
        for part in get_args(annotation):
            visit(part)

    visit(model)
    return found


def _words(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("``", "`").replace("<", "&lt;")
