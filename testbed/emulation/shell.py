"""Mininet's command line beside a running network, with the hands that a person at home has.

The network runs on a thread of its own; what is typed here is handed to its loop, never done to the
devices from this thread.
"""

from __future__ import annotations

import shlex
from threading import Event, Thread
from typing import TYPE_CHECKING

from mininet.cli import CLI
from mininet.log import output, setLogLevel

from testbed.emulation.nodes import SERVICE
from testbed.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from testbed.emulation.device import Device
    from testbed.emulation.hands import Hands
    from testbed.emulation.world import World

_ANSWERS_WITHIN_S = 5.0
_STIMULI = ("used", "motion", "firmware")


def run_beside(run: Callable[[], None], world: World, hands: Hands) -> None:
    """Run the network on a thread of its own while the command line has the terminal; raises what `run` did.

    The command line has the main thread, since Ctrl-C goes there and interrupts its command.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:  # handed to the main thread, which raises it
            failure.append(error)

    thread = Thread(target=work, name="network")
    thread.start()
    CLI.readlineInited = True  # it would leave a history file in the home folder
    setLogLevel("output")
    _CommandLine(world, hands)
    world.loop.stop()
    thread.join()
    if failure:
        raise failure[0]


class _CommandLine(CLI):  # type: ignore[misc]
    """Mininet's commands, and ours."""

    prompt = "testbed> "
    identchars = CLI.identchars + "-"  # names of devices may have it

    def __init__(self, world: World, hands: Hands) -> None:
        self._world, self._hands = world, hands
        services = ", ".join(f"{SERVICE}{name}" for name in world.service_pids)
        output(
            f"devices:  {', '.join(world.devices)}\n"
            f"router:   {world.topology.router.name}\n"
            f"services: {services}\n"
            "In a host: `HOST COMMAND`, such as `router ip neigh`. In the home: `devices`,\n"
            "`power DEVICE on|off`, `cable DEVICE in|out`, `internet on|off`, `happens DEVICE used`.\n"
            "`exit` ends it.\n"
        )
        super().__init__(world.nodes.net)

    def do_devices(self, _: str) -> None:
        """Show each device: its address, its link, whether it works."""
        rows: list[str] = []

        def look() -> None:
            rows.extend(_shown(device) for device in self._world.devices.values())

        self._soon(look)
        output("\n".join(rows) + "\n")

    def do_power(self, line: str) -> None:
        """Switch a device: `power DEVICE on|off`."""
        words = self._words(line, self._world.devices, ("on", "off"))
        if words is not None:
            device = self._world.devices[words[0]]
            self._soon(lambda: self._hands.power(device, words[1] == "on"))

    def do_cable(self, line: str) -> None:
        """Take a device's link away, or give it back: `cable DEVICE in|out`."""
        words = self._words(line, self._world.addresses, ("in", "out"))
        if words is not None:
            device = self._world.devices[words[0]]
            self._soon(lambda: self._hands.plug(device, words[1] == "in"))

    def do_internet(self, line: str) -> None:
        """Plug the router's uplink in or out (it does not notice): `internet on|off`."""
        words = self._words(line, ("on", "off"))
        if words is not None:
            self._soon(
                lambda: self._world.router.set_uplink(
                    "up" if words[0] == "on" else "silent", self._world.uplink
                )
            )

    def do_happens(self, line: str) -> None:
        """Let something happen to a device: `happens DEVICE used|motion|firmware`."""
        words = self._words(line, self._world.devices, _STIMULI)
        if words is not None:
            device = self._world.devices[words[0]]
            self._soon(lambda: self._hands.stimulate(device, words[1], None))

    def _words(self, line: str, *valid: Sequence[str] | Mapping[str, object]) -> list[str] | None:
        """Return the words of a line if each is valid; else say what is, and return None."""
        words = shlex.split(line)
        for at, known in enumerate(valid):
            if at >= len(words) or words[at] not in known:
                word = words[at] if at < len(words) else ""
                output(f"*** '{word}' cannot stand there; {nearest(word, known)}\n")
                return None
        return words

    def _soon(self, work: Callable[[], None]) -> None:
        """Let the network's thread do something now, and wait until it has."""
        done = Event()

        def turn() -> None:
            work()
            done.set()

        self._world.loop.call_soon(turn)
        done.wait(_ANSWERS_WITHIN_S)


def _shown(device: Device) -> str:
    address = device.lease.address if device.lease is not None else "-"
    link = {"down": "no link", "home": "linked"}.get(device.link, device.link) if device.port else "radio"
    state = device.board.get("function") or "" if device.powered else "off"
    return f"{device.name:<20} {address:<16} {link:<8} {state}"
