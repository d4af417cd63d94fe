"""JSON schemas of the three kinds of files, for editors that check YAML while one types."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from testbed.models.base import Model
from testbed.models.device import DeviceModel, Habit
from testbed.models.registry import habit_types
from testbed.models.scenario import Scenario
from testbed.models.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.models.data import Kind


def json_schema(kind: Kind, habits: Mapping[str, type[Habit]] | None = None) -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a device model, topology or scenario file.

    `habits` replaces the registered habit types.
    """
    models: dict[Kind, type[Model]] = {"device": DeviceModel, "topology": Topology, "scenario": Scenario}
    schema = models[kind].model_json_schema()
    if kind == "device":
        types = tuple((habit_types() if habits is None else habits).values())
        listed: Any = (
            Annotated[reduce(or_, types), Field(discriminator="behaviour")] if len(types) > 1 else types[0]
        )
        items = TypeAdapter(listed).json_schema(ref_template="#/$defs/{model}")
        schema["$defs"] |= items.pop("$defs", {})
        schema["properties"]["habits"]["items"] = items
        schema["$defs"].pop("Habit", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
