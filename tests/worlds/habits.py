"""A home with one device for each behaviour, and a life in which everything happens to all of them.

Each device has its lease, and the one habit that its case is about (with what that habit cannot do
without). Each kind of service is asked by someone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from pathlib import Path

PHASES = {
    "steady": (0, 100),
    "silent": (100, 160),
    "back": (160, 240),
    "router-off": (240, 260),
    "rebooted": (260, 340),
    "known": (340, 400),
    "found": (400, 460),
    "off": (460, 465),
    "restarted": (465, 560),
    "refused": (560, 620),
    "served": (620, 680),
}
"""Phase -> its seconds: the uplink fails in silence and returns; the router restarts; the router knows that
it has no uplink, and finds it again; every device restarts; every server but the resolver refuses, and serves
again."""

NAMES = ["a.example.com", "b.example.com"]
CLOCKS = ["a.time.example.com", "b.time.example.com"]
RETRIES = {"unvalidated": {"first": "5s"}, "validated": {"first": "8s"}}
LEASE = {"behaviour": "dhcp_lease", "name": "dhcp", "first_delay": 0, "retransmit": {"first": "2s"}}
LEASE |= {"spread": 0, "tries": 3, "pause": "3s"}
CHECK = {
    "behaviour": "http_check",
    "name": "check",
    "first": "1s",
    "every": "20s",
    "every_offline": {"first": "7s"},
    "timeout": "2s",
    "targets": [{"host": "page.example.com", "path": "/generate_204"}],
}


class Case(NamedTuple):
    """The device of one behaviour."""

    habits: list[dict[str, Any]]
    more: dict[str, Any] = {}  # noqa: RUF012 (never written to)
    """Further keys of its model."""


def endpoint(name: str, port: int, *, tls: bool = False) -> dict[str, Any]:
    return {"host": name, "port": port, "timeout": "2s", "tls": {"hello": "222B"} if tls else None}


CASES = {
    "dhcp_lease": Case([]),
    "name_batch": Case(
        [{"behaviour": "name_batch", "name": "names", "every": "15s", "names": NAMES}]
    ),
    "clock_sync": Case(
        [
            {
                "behaviour": "clock_sync", "name": "time", "servers": CLOCKS, "every": "20s",
                "timeout": "2s", "requests": 2, "retry": {"first": "6s"},
            }
        ]
    ),
    "http_check": Case([CHECK]),
    "outage_probe": Case(
        [
            {**CHECK, "every_offline": {"first": "1h"}},
            {
                "behaviour": "outage_probe", "name": "probe", "names": NAMES,
                "wait": {"first": "5s"}, "pings": [{"target": "gateway"}, {"target": "198.51.100.7"}],
                "pings_every": 2, "remembered": ["page.example.com"], "timeout": "2s",
            },
        ]
    ),
    "ping_cycle": Case(
        [
            {
                "behaviour": "ping_cycle", "name": "pings", "every": "15s", "names": ["a.example.com"],
                "targets": [{"target": "gateway", "count": 2}, {"target": "198.51.100.7", "count": 1}],
            }
        ]
    ),
    "group_membership": Case(
        [{"behaviour": "group_membership", "name": "groups", "groups": ["239.255.1.2"], "join_version": 2}]
    ),
    "mdns": Case(
        [
            {
                "behaviour": "mdns", "name": "mdns", "hostname": "toy-{mac}", "browse": ["_toy._tcp.local"],
                "services": [{"type": "_toy._tcp.local", "instance": "Toy {mac}", "port": 80}],
            }
        ]
    ),
    "ssdp": Case(
        [{"behaviour": "ssdp", "name": "ssdp", "every": "30s", "search": ["ssdp:all"], "repeat": 2}]
    ),
    "mqtt_session": Case(
        [
            {
                "behaviour": "mqtt_session", "name": "broker",
                "endpoint": endpoint("broker.example.com", 1883),
                "keep_alive": 10, "timeout": "3s", "subscribe": ["to/{mac}"], "publish_topic": "from/{mac}",
                "publish_every": "15s", "publish_bytes": "120B",
                "announce": ["here/{mac}"], "retries": RETRIES,
            }
        ]
    ),
    "cloud_session": Case(
        [
            {
                "behaviour": "cloud_session", "name": "cloud", "main": True,
                "endpoint": endpoint("cloud.example.com", 443, tls=True),
                "heartbeat": {"every": "10s", "up": "240B", "down": "130B"}, "timeout": "3s",
                "registration": [{"times": 3, "up": "900B", "down": "5kB", "spacing": "500ms"}],
                "resumption": [{"times": 1, "up": "600B", "down": "300B"}], "retries": RETRIES,
            }
        ]
    ),
    "short_session": Case(
        [
            {
                "behaviour": "short_session", "name": "reports", "every": "20s", "attempts": 2,
                "timeout": "3s", "retry": {"first": "2s"}, "burst": {"up": "600B", "down": "9kB"},
                "endpoints": [endpoint("cloud.example.com", 443, tls=True), endpoint("api.example.com", 80)],
            }
        ]
    ),
    "weave_checkin": Case(
        [
            {
                "behaviour": "weave_checkin", "name": "weave",
                "endpoint": endpoint("weave.example.com", 11_095),
                "every": "30s", "first": "30s", "messages": [{"times": 2, "up": "200B", "down": "80B"}],
                "registration": [{"times": 1, "up": "900B", "down": "200B"}], "timeout": "3s",
                "retry": {"first": "5s"}, "attempts": 2, "think": "1s",
            }
        ]
    ),
    "push_channel": Case(
        [
            {
                "behaviour": "push_channel", "name": "push",
                "endpoint": endpoint("push.example.com", 5228, tls=True),
                "heartbeat_every": "12s", "timeout": "3s", "retries": RETRIES,
            }
        ]
    ),
    "firmware_update": Case(
        [
            {
                "behaviour": "firmware_update", "name": "update",
                "endpoint": endpoint("image.example.com", 80),
                "chunk": "64kB", "timeout": "5s", "retry": {"first": "6s"},
            }
        ]
    ),
    "local_control": Case(
        [
            {
                "behaviour": "local_control", "name": "app", "on": "used", "peer": "plug.lan",
                "poll_every": "2s", "lasts": "9s", "timeout": "3s",
            }
        ]
    ),
    "radio_child": Case(
        [
            {
                "behaviour": "short_session", "name": "relay", "on": "door", "timeout": "3s",
                "burst": {"up": "300B", "down": "200B"}, "endpoints": [endpoint("api.example.com", 80)],
            }
        ]
    ),
}  # fmt: skip
"""Behaviour -> its case; the device is called like it, with hyphens."""

SESSIONS = ("mqtt_session", "cloud_session", "push_channel")
"""Open connections outlive a server that refuses new ones: these are restarted meanwhile."""

STIMULI = {
    "firmware_update": [(20, "firmware", "300kB"), (155, "firmware", "200kB"), (570, "firmware", "100kB")],
    "local_control": [(second, "used", 0) for second in (20, 110, 230, 350, 480)],
}

SERVICES = [
    ("isp_resolver", "resolver", [], [53], {}),
    ("time", "ntp", CLOCKS, [123], {}),
    ("page", "web", ["page.example.com"], [80], {"paths": {"/generate_204": {"status": 204}}}),
    ("broker", "broker", ["broker.example.com"], [1883], {}),
    ("cloud", "cloud", ["cloud.example.com"], [443], {}),
    ("api", "http_api", ["api.example.com"], [80], {}),
    ("weave", "weave", ["weave.example.com"], [11_095], {}),
    ("push", "gcm", ["push.example.com"], [5228], {}),
    ("image", "web", ["image.example.com", *NAMES], [80], {}),
    ("pingable", "web", [], [80], {}),
]
"""Name, kind, DNS names, ports, options. The router has a `dhcp_server`, the plug a `local_control`."""


def name_of(behaviour: str) -> str:
    return behaviour.replace("_", "-")


def write(folder: Path) -> None:
    """Write the models, the topology `habits` and the scenario `life`."""
    models = {name_of(behaviour): _device(behaviour, case) for behaviour, case in CASES.items()}
    models["door"] = _child()
    models["plug"] = _plug()
    for name, model in models.items():
        _dump(folder / "device_models" / f"{name}.yaml", {"name": name, **model})
    _dump(folder / "topologies" / "habits.yaml", _topology([*models]))
    _dump(folder / "scenarios" / "life.yaml", _scenario([*models]))


def _dump(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def _with_sources(block: dict[str, Any]) -> dict[str, Any]:
    keys = ", ".join(key for key in block if key not in ("behaviour", "name"))
    return {**block, "sources": {keys: "assumed: an example"}} if keys else block


def _device(behaviour: str, case: Case) -> dict[str, Any]:
    return {
        "title": f"A device for {behaviour}", "vendor": "Nobody", "hub_or_sensor": "S", "oui": "02:00:5e",
        "boot": "1s", "sources": {"boot": "assumed: an example"},
        "link": _with_sources({"medium": "wifi", "associate": "1s"}),
        "resolver": _with_sources({"timeout": "2s", "tries": 1, "on_error": "fail"}),
        "habits": [_with_sources(habit) for habit in (LEASE, *case.habits)],
    }  # fmt: skip


def _child() -> dict[str, Any]:
    habit = {"behaviour": "radio_child", "name": "radio", "tells": "door", "every": "40s", "first": "30s"}
    return {
        "title": "A door sensor", "vendor": "Nobody", "hub_or_sensor": "S", "oui": None, "dhcp": None,
        "link": {"medium": "zigbee", "through": name_of("radio_child")}, "habits": [_with_sources(habit)],
    }  # fmt: skip


def _plug() -> dict[str, Any]:
    listens = {"listens": [{"port": 9999, "service": "local_control"}]}
    return {**_device("the app", Case([])), **listens, "sources": {"boot, listens": "assumed: an example"}}


def _topology(names: list[str]) -> dict[str, Any]:
    return {
        "name": "habits", "title": "A device for each behaviour",
        "router": {"boot": "10s", "dhcp": {"lease": "90s"}, "igmp": {"interval": "50s"}},
        "wan": {"delay": "3ms"},
        "devices": [{"name": name, "model": name} for name in names],
        "places": [{"name": "dublin", "country": "IE", "latitude": 53, "longitude": -6, "delay": "5ms"}],
        "services": [
            {"name": name, "service": kind, "names": names, "ports": ports, "options": options}
            | {"place": "dublin"}
            | ({"address": "198.51.100.7"} if name == "pingable" else {})
            for name, kind, names, ports, options in SERVICES
        ],
    }  # fmt: skip


def _scenario(names: list[str]) -> dict[str, Any]:
    def at(phase: str) -> str:
        return f"{PHASES[phase][0]}s"

    events: list[dict[str, Any]] = [
        {"action": "internet", "at": at("silent"), "state": "off", "how": "silent"},
        {"action": "internet", "at": at("back"), "state": "on"},
        {"action": "router", "at": at("router-off"), "state": "off"},
        {"action": "router", "at": f"{PHASES['rebooted'][0] - 10}s", "state": "on"},
        {"action": "internet", "at": at("known"), "state": "off", "how": "known"},
        {"action": "internet", "at": at("found"), "state": "on"},
    ]
    events += [
        {"action": "device", "at": at("off"), "device": name, "state": "restart", "off_for": "5s"}
        for name in names
    ]
    events += [
        {"action": "device", "at": "580s", "device": name_of(behaviour), "state": "restart", "off_for": "5s"}
        for behaviour in SESSIONS
    ]
    events += [
        {"action": "service_down", "at": at("refused"), "duration": "60s", "service": name, "how": "refused"}
        for name, kind, *_ in SERVICES
        if kind != "resolver"
    ]
    for behaviour, stimuli in STIMULI.items():
        events += [
            {"action": "stimulus", "at": f"{second}s", "device": name_of(behaviour), "kind": kind}
            | ({"size": size} if size else {})
            for second, kind, size in stimuli
        ]
    return {
        "name": "life", "title": "Everything happens to everyone", "topology": "habits",
        "begin": "2018-04-03T12:00:00Z", "duration": f"{max(end for _, end in PHASES.values())}s",
        "warm_up": 0,
        "states": [
            {"name": name, "begin": f"{begin}s", "end": f"{end}s"} for name, (begin, end) in PHASES.items()
        ],
        "events": events,
    }  # fmt: skip
