"""Sessions with clouds: registering, resuming, two ways of coming back, prerequisites, gates."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from testbed.behaviours import facts
from testbed.behaviours.cloud_session import cloud_session
from testbed.behaviours.firmware_update import firmware_update
from testbed.behaviours.mqtt_session import mqtt_session
from testbed.behaviours.push_channel import push_channel
from testbed.behaviours.short_session import short_session
from testbed.behaviours.weave_checkin import weave_checkin
from testbed.models.habits import (
    CloudSession,
    FirmwareUpdate,
    MqttSession,
    PushChannel,
    ShortSession,
    WeaveCheckin,
)
from testbed.protocols import mqtt
from tests.fake_host import Done, FakeHost, Net, device, online

CLOUD = {
    "behaviour": "cloud_session", "name": "cloud", "main": True,
    "endpoint": {"host": "cloud.example", "timeout": "20s"},
    "heartbeat": {"every": "30s", "up": "300B", "down": "200B"},
    "timeout": "10s",
    "registration": [{"times": 3, "up": "600B", "down": "400B"}],
    "resumption": [{"times": 1, "up": "500B", "down": "250B"}],
    "retries": {"unvalidated": {"first": "20s"}, "validated": {"first": "60s", "factor": 12, "cap": "2h"}},
}  # fmt: skip


def place(kind: str = "cloud", port: int = 443, lookup_tries: int = 1) -> tuple[Net, FakeHost]:
    net = Net()
    net.serve(kind, "cloud.example", "198.18.0.10", port)
    host = FakeHost(net, device(resolver={"tries": lookup_tries, "on_error": "fail"}), "habit")
    return net, host


def cloud(**changes: Any) -> tuple[Net, FakeHost]:
    net, host = place()
    p = CloudSession.model_validate({**CLOUD, **changes})
    net.start(cloud_session(host, p))  # type: ignore[arg-type]
    online(host)
    return net, host


def of(net: Net, kind: str, since: float = 0.0) -> list[Done]:
    return [done for done in net.log if done.kind == kind and done.at >= since]


def sizes(net: Net, since: float = 0.0) -> list[int]:
    return [len(done.data) for done in of(net, "request", since)]


def test_the_first_connection_registers_then_beats() -> None:
    net, host = cloud()
    net.run(100)
    assert sizes(net) == [600, 600, 600, 300, 300, 300]
    beats = [done.at for done in of(net, "request")][3:]
    assert [b - a for a, b in itertools.pairwise(beats)] == pytest.approx([30, 30])
    assert host.board.get(facts.ONLINE) and host.board.get(facts.REGISTERED) and host.board.get("cloud")
    assert {done.about.protocol for done in of(net, "request")} == {"HTTPS"}


def test_a_name_is_looked_up_before_every_connection() -> None:
    net, _ = cloud(lifetime="5min")
    net.run(1000)
    assert len([d for d in net.log if d.about.protocol == "DNS"]) == len(of(net, "open")) == 4
    assert len(of(net, "close")) == 3


def test_silence_aborts_the_connection_after_the_timeout() -> None:
    net, host = cloud()
    net.run(100)
    net.uplink = "silent"
    net.run(60)
    last = of(net, "request")[-1]
    assert last.outcome == "no-reply"
    assert of(net, "abort")[0].at == pytest.approx(last.at + 10)
    assert host.board.get(facts.LOST) and not host.board.get(facts.REGISTERED)


def test_never_reached_it_retries_shortly_and_for_ever() -> None:
    net, host = place()
    net.uplink = "known"
    net.start(cloud_session(host, CloudSession.model_validate(CLOUD)))  # type: ignore[arg-type]
    online(host)
    net.run(2 * 3600)
    tries = [done.at for done in net.log if done.about.protocol == "DNS"]
    assert [b - a for a, b in itertools.pairwise(tries)] == pytest.approx([20.05] * (len(tries) - 1))
    assert not host.board.get(facts.LOST) and host.board.get(facts.FRESH)
    net.uplink = "up"
    net.run(60)
    assert sizes(net)[:3] == [600, 600, 600], "it registers in full"


def test_once_validated_it_backs_off_past_the_recovery_and_only_resumes() -> None:
    net, host = cloud()
    net.run(100)
    net.uplink = "known"
    net.run(3600)
    net.uplink = "up"
    net.run(3600)
    tries = [done for done in net.log if done.about.protocol == "DNS"][1:]
    lost = of(net, "abort")[0].at
    assert [done.at - lost for done in tries] == pytest.approx([60, 60 + 720], abs=1)
    assert tries[1].about.attempt == 2 and "validated" in tries[1].about.why
    assert not host.board.get("cloud"), "the back-off outlasts the outage"
    net.run(3600)
    assert host.board.get("cloud")
    resumed = sizes(net, of(net, "open")[-1].at)
    assert resumed[0] == 500 and 600 not in resumed
    assert host.board.get(facts.REGISTERED)


def test_a_new_link_forgets_the_back_off_and_registers_again() -> None:
    net, host = cloud()
    net.run(100)
    net.uplink = "known"
    net.run(1800)
    host.link(False)
    facts.link_went_down(host)  # type: ignore[arg-type]
    net.run(60)
    net.uplink = "up"
    online(host)
    since = net.log[-1].at
    net.run(5)
    assert sizes(net, since + 0.001) == [600, 600, 600]


def test_what_was_only_resumed_counts_as_registered_later() -> None:
    net, host = cloud(
        registers_again_after="2h", retries={"unvalidated": {"first": "5s"}, "validated": {"first": "5s"}}
    )
    net.run(100)
    net.uplink = "silent"
    net.run(120)
    net.uplink = "up"
    net.run(60)
    assert host.board.get("cloud") and not host.board.get(facts.REGISTERED)
    since = net.log[-1].at
    net.run(2 * 3600)
    assert sizes(net, since).count(600) == 3 and host.board.get(facts.REGISTERED)


def test_telemetry_waits_for_registration() -> None:
    net, host = cloud(
        telemetry={"every": "10s", "up": "700B", "down": "200B"},
        registers_again_after="1h",
        retries={"unvalidated": {"first": "5s"}, "validated": {"first": "5s"}},
    )
    net.run(65)
    assert sizes(net).count(700) == 6
    net.uplink = "silent"
    net.run(60)
    net.uplink = "up"
    net.run(600)
    assert host.board.get("cloud")
    assert 700 not in sizes(net, of(net, "open")[-1].at), "a resumed session has none"


def test_prerequisites_hold_the_session_back() -> None:
    net, host = cloud(requires=["clock"])
    net.run(600)
    assert net.log == []
    host.board.set(facts.CLOCK, True)
    net.run(1)
    assert of(net, "request")


def test_tls_says_what_the_model_says_and_offers_resumption_later() -> None:
    endpoint = {
        "host": "cloud.example",
        "tls": {"sni": False, "hello": "307B", "chain": "4.6kB", "resume": True},
    }
    hellos: list[Any] = []
    net, host = place()
    original = host.open_stream

    async def spy(
        address: str, port: int, timeout_s: float, about: Any, tls: Any = None, keepalive_s: Any = None
    ) -> Any:
        hellos.append(tls)
        return await original(address, port, timeout_s, about, tls, keepalive_s)

    host.open_stream = spy  # type: ignore[method-assign]
    p = CloudSession.model_validate({**CLOUD, "endpoint": endpoint, "lifetime": "60s"})
    net.start(cloud_session(host, p))  # type: ignore[arg-type]
    online(host)
    net.run(100)
    assert [(h.sni, h.hello_bytes, h.chain_bytes, h.resume) for h in hellos] == [
        (None, 307, 4600, False),
        (None, 307, 4600, True),
    ]


def test_keep_alive_probes_fill_the_time_between_heartbeats() -> None:
    net, _ = cloud(keepalive="60s", heartbeat={"every": "5min", "up": "300B", "down": "200B"})
    net.run(1000)
    assert len(of(net, "idle")) == 4


# --- short sessions ---------------------------------------------------------------------------

SHORT = {
    "behaviour": "short_session", "name": "report",
    "endpoints": [{"host": "cloud.example"}], "burst": {"times": 2, "up": "400B", "down": "300B"},
}  # fmt: skip


def short(**changes: Any) -> tuple[Net, FakeHost]:
    net, host = place()
    net.serve("web", "b.example", "198.18.0.11", 80)
    net.start(short_session(host, ShortSession.model_validate({**SHORT, **changes})))  # type: ignore[arg-type]
    online(host)
    return net, host


def test_a_session_with_a_period_opens_exchanges_and_closes() -> None:
    net, _ = short(every="4min", first="10s")
    net.run(600)
    assert [done.at for done in of(net, "open")] == pytest.approx([10.05, 250.05, 490.05], abs=0.2)
    assert len(of(net, "request")) == 6 and len(of(net, "close")) == 3


def test_without_a_schedule_there_is_one_round_after_boot() -> None:
    net, _ = short()
    net.run(86400)
    assert len(of(net, "open")) == 1


def test_endpoints_are_walked_or_all_visited() -> None:
    both = [{"host": "cloud.example"}, {"host": "b.example", "port": 80, "tls": None}]
    net, _ = short(endpoints=both, every="60s", walk=True)
    net.run(130)
    assert [d.about.service for d in of(net, "open")] == ["cloud.example", "b.example", "cloud.example"]
    assert [d.about.protocol for d in of(net, "open")] == ["HTTPS", "HTTP", "HTTPS"]
    net, _ = short(endpoints=both)
    net.run(10)
    assert [d.about.service for d in of(net, "open")] == ["cloud.example", "b.example"]


def test_a_stimulus_causes_a_session_and_what_nobody_listens_to_is_lost() -> None:
    net, host = short(on="motion")
    net.run(10)
    assert net.log == []
    host.board.stimulate("motion")
    net.run(10)
    assert len(of(net, "open")) == 1


def test_after_a_stimulus_it_can_go_on_for_a_while() -> None:
    net, host = short(on="registered", lasts="10min", every="60s")
    net.run(10)
    host.board.stimulate("registered")
    net.run(3600)
    assert len(of(net, "open")) == 10


def test_a_failed_session_is_tried_again_as_often_as_the_model_says() -> None:
    net, _ = short(attempts=3, retry={"first": "2s", "factor": 2})
    net.deaf.add("198.18.0.10")
    net.run(300)
    tries = of(net, "open")
    assert [done.about.attempt for done in tries] == [0, 1, 2]


# --- MQTT -------------------------------------------------------------------------------------

MQTT = {
    "behaviour": "mqtt_session", "name": "broker",
    "endpoint": {"host": "cloud.example", "port": 1883, "tls": None, "timeout": "10s", "remembers": True},
    "client_id": "dev-{mac}", "user": "device", "password": "secret", "keep_alive": 10,
    "subscribe": ["device/{mac}/ping"], "publish_topic": "device/{mac}/push", "publish_every": "300s",
    "publish_bytes": "145B", "announce": ["device/{mac}/boot"],
    "retries": {"unvalidated": {"first": "10s"}, "validated": {"first": "10s"}},
}  # fmt: skip


def broker(**changes: Any) -> tuple[Net, FakeHost]:
    net, host = place("broker", 1883)
    net.start(mqtt_session(host, MqttSession.model_validate({**MQTT, **changes})))  # type: ignore[arg-type]
    online(host)
    return net, host


def packets(net: Net) -> list[Any]:
    return [mqtt.decode(d.data) for d in net.log if d.kind in ("request", "stream-send")]


def test_mqtt_connects_subscribes_announces_and_pings() -> None:
    net, host = broker()
    net.run(35)
    connect, subscribe, announce, *pings = packets(net)
    assert connect == mqtt.Connect("dev-50c7bf000001", 10, False, "device", b"secret")
    assert subscribe.topics == (("device/50c7bf000001/ping", 0),)
    assert announce.topic == "device/50c7bf000001/boot"
    assert pings and all(isinstance(ping, mqtt.Pingreq) for ping in pings)
    beats = [d.at for d in net.log if d.kind == "request"][2:]
    assert [b - a for a, b in itertools.pairwise(beats)] == pytest.approx([10, 10])
    assert host.board.get("broker") and host.board.get(facts.ONLINE)


@pytest.mark.parametrize("qos", [0, 1])
def test_readings_are_published_and_delay_the_next_ping(qos: int) -> None:
    net, _ = broker(qos=qos)
    net.run(3605)
    readings = [p for p in packets(net) if isinstance(p, mqtt.Publish) and p.topic.endswith("push")]
    assert len(readings) == 12 and {len(p.payload) for p in readings} == {145}
    assert len([p for p in packets(net) if isinstance(p, mqtt.Pingreq)]) == 360 - 12


def test_a_lost_broker_is_sought_at_its_remembered_address_without_dns_answers() -> None:
    net, host = broker()
    net.run(30)
    net.uplink = "silent"
    net.run(120)
    since = of(net, "abort")[0].at
    assert len(of(net, "open", since)) >= 3, "SYNs go out although no name resolves"
    net.uplink = "up"
    net.run(40)
    assert host.board.get("broker")
    again = [mqtt.decode(d.data) for d in of(net, "request", since)]
    assert not any(isinstance(p, mqtt.Subscribe) for p in again), "the broker kept the session"


def test_without_a_name_on_a_new_link_no_connection_is_tried() -> None:
    net, host = broker()
    net.run(30)
    host.link(False)
    facts.link_went_down(host)  # type: ignore[arg-type]
    net.uplink = "known"
    net.run(30)
    online(host)
    since = net.now - 1_523_541_600.0
    net.run(600)
    assert of(net, "open", since) == [] and len(of(net, "udp", since)) > 50


# --- Weave and push ---------------------------------------------------------------------------

WEAVE = {
    "behaviour": "weave_checkin", "name": "weave", "at": ["20:00", "05:00"],
    "endpoint": {"host": "cloud.example", "port": 11095, "tls": None, "timeout": "10s"},
    "messages": [{"times": 2, "up": "60B", "down": "0B"}, {"up": "60B", "down": "60B"}],
    "registration": [{"times": 5, "up": "700B", "down": "700B"}],
    "retry": {"first": "15s"},
}  # fmt: skip


def alarm(**changes: Any) -> tuple[Net, FakeHost]:
    net, host = place("weave", 11095)
    net.start(weave_checkin(host, WeaveCheckin.model_validate({**WEAVE, **changes})))  # type: ignore[arg-type]
    return net, host


def test_an_alarm_registers_when_its_link_comes_up_then_keeps_its_hours() -> None:
    net, host = alarm()
    online(host)
    net.run(60)
    assert sizes(net) == [60] + [700] * 5 and len(of(net, "stream-send")) == 2
    net.run(24 * 3600)
    hours = [round(done.at / 3600, 1) for done in of(net, "open")]
    assert hours == [0.0, 6.0, 15.0]
    assert sizes(net, 100) == [60, 60]


def test_it_sleeps_through_an_outage() -> None:
    net, host = alarm()
    online(host)
    net.run(60)
    since = len(net.log)
    net.uplink = "silent"
    net.run(3600)
    assert net.log[since:] == []


def test_it_tries_constantly_after_its_link_came_back_without_the_internet() -> None:
    net, host = alarm()
    online(host)
    net.run(60)
    host.link(False)
    facts.link_went_down(host)  # type: ignore[arg-type]
    net.uplink = "known"
    online(host)
    since = net.now - 1_523_541_600.0
    net.run(600)
    lookups = [done.at for done in of(net, "udp", since)]
    assert [b - a for a, b in itertools.pairwise(lookups)] == pytest.approx([16.05] * (len(lookups) - 1))
    net.uplink = "up"
    net.run(60)
    assert sizes(net, since).count(700) == 5


def test_a_routine_contact_gives_up_after_its_tries() -> None:
    net, host = alarm(notices_link=False)
    online(host)
    net.uplink = "known"
    net.run(7 * 3600)
    assert len(of(net, "udp")) == 3


PUSH = {
    "behaviour": "push_channel", "name": "push", "requires": ["online"],
    "endpoint": {"host": "cloud.example", "port": 5228}, "heartbeat_every": "15min",
    "retries": {"unvalidated": {"first": "15s"}, "validated": {"first": "15s", "factor": 2}},
}  # fmt: skip


def test_the_push_channel_logs_in_beats_and_is_dropped_when_off_line() -> None:
    net, host = place("gcm", 5228)
    net.start(push_channel(host, PushChannel.model_validate(PUSH)))  # type: ignore[arg-type]
    online(host)
    net.run(600)
    assert net.log == []
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(3600)
    assert len(of(net, "request")) == 1 + 3 and {d.about.protocol for d in of(net, "open")} == {"GCM"}
    facts.went_offline(host, "test")  # type: ignore[arg-type]
    net.run(3600)
    assert len(of(net, "abort")) == 1 and len(of(net, "open")) == 1
    facts.went_online(host, "test")  # type: ignore[arg-type]
    net.run(60)
    assert len(of(net, "open")) == 2


def test_the_push_channel_logs_in_anew_after_its_time() -> None:
    net, host = place("gcm", 5228)
    p = PushChannel.model_validate({**PUSH, "requires": [], "login_again_every": "40min"})
    net.start(push_channel(host, p))  # type: ignore[arg-type]
    online(host)
    net.run(3600)
    assert len(of(net, "open")) == 2 and len(of(net, "close")) == 1


def test_heartbeats_begin_short_and_grow_anew_after_each_login() -> None:
    net, host = place("gcm", 5228)
    adaptive = {"requires": [], "heartbeat_first": "1min", "heartbeat_growth": 2, "login_again_every": "1h"}
    net.start(push_channel(host, PushChannel.model_validate({**PUSH, **adaptive})))  # type: ignore[arg-type]
    online(host)
    net.run(2 * 3600)
    beats = [round((b.at - a.at) / 60) for a, b in itertools.pairwise(of(net, "request"))]
    assert beats[:6] == [1, 2, 4, 8, 15, 15], "up to heartbeat_every"
    assert beats[7:10] == [1, 2, 4], "after the second login"


# --- updates ----------------------------------------------------------------------------------

UPDATE = {
    "behaviour": "firmware_update", "name": "update", "endpoint": {"host": "cloud.example"},
    "chunk": "64kB", "size": "1MB", "retry": {"first": "30s", "factor": 2},
}  # fmt: skip


@pytest.mark.parametrize("parallel", [1, 4])
def test_an_update_is_fetched_in_chunks_to_the_last_byte(parallel: int) -> None:
    net, host = place()
    p = FirmwareUpdate.model_validate({**UPDATE, "parallel": parallel})
    net.start(firmware_update(host, p))  # type: ignore[arg-type]
    online(host)
    net.run(10)
    assert net.log == []
    host.board.stimulate("firmware", 500_000)
    net.run(60)
    wanted = [int(d.data.split(b"X-Answer-Bytes: ")[1].split(b"\r\n")[0]) for d in of(net, "request")]
    assert sum(wanted) == pytest.approx(500_000, abs=512) and max(wanted) == 64_000
    assert len(of(net, "open")) == parallel
    assert [note[2] for note in net.notes if note[1] == "firmware"] == ["begins", "complete"]


def test_an_interrupted_update_goes_on_where_it_stopped() -> None:
    net, host = place()
    net.start(firmware_update(host, FirmwareUpdate.model_validate(UPDATE)))  # type: ignore[arg-type]
    online(host)
    net.run(1)
    host.board.stimulate("firmware")
    net.run(0.4)
    got = len(of(net, "request"))
    assert 0 < got < 16
    net.uplink = "silent"
    net.run(200)
    net.uplink = "up"
    net.run(600)
    answered = [d for d in of(net, "request") if d.outcome == "ok"]
    assert len(answered) == 16 and net.notes[-1][2] == "complete"
