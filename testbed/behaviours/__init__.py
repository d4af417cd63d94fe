"""What devices do: one plain ``async def habit(host, parameters)`` per file.

A behaviour sees the network only through its host. It knows nothing of what is played on the
network; its reactions come from timers, counters, caches and the facts on the device's board.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from testbed.behaviours.clock_sync import clock_sync
from testbed.behaviours.cloud_session import cloud_session
from testbed.behaviours.dhcp_lease import dhcp_lease
from testbed.behaviours.firmware_update import firmware_update
from testbed.behaviours.function import watch_function
from testbed.behaviours.group_membership import group_membership
from testbed.behaviours.http_check import http_check
from testbed.behaviours.local_control import local_control
from testbed.behaviours.mdns import mdns
from testbed.behaviours.mqtt_session import mqtt_session
from testbed.behaviours.name_batch import name_batch
from testbed.behaviours.outage_probe import outage_probe
from testbed.behaviours.ping_cycle import ping_cycle
from testbed.behaviours.push_channel import push_channel
from testbed.behaviours.radio_child import radio_child
from testbed.behaviours.short_session import short_session
from testbed.behaviours.ssdp import ssdp
from testbed.behaviours.weave_checkin import weave_checkin
from testbed.errors import UserError
from testbed.protocols import WrongSize

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from testbed.host import Host
    from testbed.models import Habit

    Behaviour = Callable[[Host, Any], Coroutine[Any, Any, None]]

__all__ = ["BEHAVIOURS", "behaviours", "guarded", "run_device"]

BEHAVIOURS: Mapping[str, Behaviour] = {
    "clock_sync": clock_sync,
    "cloud_session": cloud_session,
    "dhcp_lease": dhcp_lease,
    "firmware_update": firmware_update,
    "group_membership": group_membership,
    "http_check": http_check,
    "local_control": local_control,
    "mdns": mdns,
    "mqtt_session": mqtt_session,
    "name_batch": name_batch,
    "outage_probe": outage_probe,
    "ping_cycle": ping_cycle,
    "push_channel": push_channel,
    "radio_child": radio_child,
    "short_session": short_session,
    "ssdp": ssdp,
    "weave_checkin": weave_checkin,
}
"""The behaviours of this package, by the name that a habit gives under ``behaviour``."""


@cache
def behaviours() -> Mapping[str, Behaviour]:
    """Return every behaviour: ours, and those of packages with entry points in `testbed.behaviours`.

    Such an entry point names a pair (parameter type, behaviour function).
    """
    found = dict(BEHAVIOURS)
    for point in entry_points(group="testbed.behaviours"):
        found[point.name] = point.load()[1]
    return found


async def run_device(host: Host) -> None:
    """Be the device from power-on: boot, then run every habit of its model until the power goes."""
    known = behaviours()
    await host.sleep(host.device.boot)
    for habit in host.device.habits:
        host.spawn(habit.name, partial(_run, known[habit.behaviour], habit))
    await watch_function(host)


async def guarded(host: Host, task: str, work: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Run a task; a model that asks for an impossible message is its author's mistake, not ours.

    Both worlds run every task through this: how much a message holds is known only when it is made.
    """
    try:
        await work(host)
    except WrongSize as problem:
        raise UserError(f"device model '{host.device.name}': habit '{task}': {problem}") from problem


def _run(behaviour: Behaviour, habit: Habit, host: Host) -> Coroutine[Any, Any, None]:
    return behaviour(host, habit)
