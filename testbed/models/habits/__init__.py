"""Typed parameters of every habit a device model may list."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from testbed.models.habits.cloud import (
    CloudSession,
    FirmwareUpdate,
    MqttSession,
    PushChannel,
    ShortSession,
    WeaveCheckin,
)
from testbed.models.habits.local import LocalControl, Mdns, RadioChild, Ssdp
from testbed.models.habits.network import (
    ClockSync,
    DhcpLease,
    GroupMembership,
    HttpCheck,
    NameBatch,
    OutageProbe,
    PingCycle,
)

if TYPE_CHECKING:
    from testbed.models.device import Habit

_ALL: tuple[type[Habit], ...] = (
    ClockSync,
    CloudSession,
    DhcpLease,
    FirmwareUpdate,
    GroupMembership,
    HttpCheck,
    LocalControl,
    Mdns,
    MqttSession,
    NameBatch,
    OutageProbe,
    PingCycle,
    PushChannel,
    RadioChild,
    ShortSession,
    Ssdp,
    WeaveCheckin,
)

HABITS: dict[str, type[Habit]] = {
    get_args(kind.model_fields["behaviour"].annotation)[0]: kind for kind in _ALL
}
"""Behaviour name -> the type of its parameters."""

__all__ = [
    "HABITS",
    "ClockSync",
    "CloudSession",
    "DhcpLease",
    "FirmwareUpdate",
    "GroupMembership",
    "HttpCheck",
    "LocalControl",
    "Mdns",
    "MqttSession",
    "NameBatch",
    "OutageProbe",
    "PingCycle",
    "PushChannel",
    "RadioChild",
    "ShortSession",
    "Ssdp",
    "WeaveCheckin",
]
