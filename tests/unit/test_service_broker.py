"""The MQTT broker, spoken to in our own codec and without sockets."""

from __future__ import annotations

from typing import Any

from testbed.protocols import mqtt
from testbed.services import ServiceContext
from testbed.services.broker import Broker, BrokerSession
from testbed.services.registry import build


def broker(**options: Any) -> Broker:
    made = build("broker", options, ServiceContext("broker"))
    assert isinstance(made, Broker)
    return made


class Peer:
    """A client at the other end of a session; it sees what other clients' messages put there."""

    def __init__(self, at: Broker, ident: str, **fields: Any) -> None:
        self.session: BrokerSession = at.session(("192.168.1.9", 4000), 0.0)
        self.decoder = mqtt.Decoder()
        self.seen: list[mqtt.Packet] = []
        self.session.on_output = self.fetch
        self.say(mqtt.Connect(ident, **fields))

    def fetch(self) -> None:
        self.seen += self.decoder.feed(self.session.take_output())

    def say(self, *packets: mqtt.Packet, now: float = 0.0) -> None:
        answer = self.session.receive(b"".join(packet.encode() for packet in packets), now)
        if answer is not None:
            self.seen += self.decoder.feed(answer.data)

    def take(self) -> list[mqtt.Packet]:
        seen, self.seen = self.seen, []
        return seen


def test_connect_ping_and_disconnect() -> None:
    at = broker()
    foobot = Peer(at, "uuid", keep_alive_s=10)
    assert foobot.take() == [mqtt.Connack()]
    foobot.say(mqtt.Pingreq())
    assert foobot.take() == [mqtt.Pingresp()]
    foobot.say(mqtt.Disconnect())
    assert foobot.session.closed
    assert at.clients == {}


def test_a_silent_client_expires_after_one_and_a_half_keep_alives() -> None:
    foobot = Peer(broker(), "uuid", keep_alive_s=10)
    foobot.say(mqtt.Pingreq(), now=100.0)
    assert not foobot.session.expired(115.0)
    assert foobot.session.expired(115.1)
    assert not Peer(broker(), "x", keep_alive_s=0).session.expired(1e9)


def test_messages_reach_subscribers_at_the_lower_qos() -> None:
    at = broker()
    app, foobot = Peer(at, "app"), Peer(at, "uuid")
    app.say(mqtt.Subscribe(1, (("device/+/sensor/push", 1), ("device/#", 0))))
    assert app.take() == [mqtt.Connack(), mqtt.Suback(1, (1, 0))]
    foobot.say(mqtt.Publish("device/uuid/sensor/push", b"[1]", 2, ident=9), mqtt.Pubrel(9))
    assert foobot.take() == [mqtt.Connack(), mqtt.Pubrec(9), mqtt.Pubcomp(9)]
    assert app.take() == [mqtt.Publish("device/uuid/sensor/push", b"[1]", 1, ident=1)]


def test_qos_2_routes_a_message_once() -> None:
    at = broker()
    app, foobot = Peer(at, "app"), Peer(at, "uuid")
    app.say(mqtt.Subscribe(1, (("t", 2),)))
    app.take()
    foobot.say(mqtt.Publish("t", b"x", 2, ident=5), mqtt.Publish("t", b"x", 2, duplicate=True, ident=5))
    assert app.take() == [mqtt.Publish("t", b"x", 2, ident=1)]
    app.say(mqtt.Pubrec(1))
    assert app.take() == [mqtt.Pubrel(1)]
    app.say(mqtt.Pubcomp(1))
    foobot.say(mqtt.Pubrel(5), mqtt.Publish("t", b"y", 2, ident=5))
    assert app.take() == [mqtt.Publish("t", b"y", 2, ident=2)]


def test_a_kept_session_resumes_with_what_came_meanwhile() -> None:
    at = broker()
    first = Peer(at, "uuid", clean_session=False)
    first.say(mqtt.Subscribe(1, (("cmd", 1),)))
    other = Peer(at, "app")
    other.say(mqtt.Publish("cmd", b"unacknowledged", 1, ident=1))
    assert first.take()[-1] == mqtt.Publish("cmd", b"unacknowledged", 1, ident=1)
    first.session.lost(20.0)
    other.say(mqtt.Publish("cmd", b"queued", 1, ident=2), mqtt.Publish("cmd", b"dropped", 0))
    again = Peer(at, "uuid", clean_session=False)
    assert again.take() == [
        mqtt.Connack(session_present=True),
        mqtt.Publish("cmd", b"unacknowledged", 1, duplicate=True, ident=1),
        mqtt.Publish("cmd", b"queued", 1, ident=2),
    ]
    again.say(mqtt.Puback(1), mqtt.Puback(2))
    again.session.lost(30.0)
    assert Peer(at, "uuid", clean_session=False).take() == [mqtt.Connack(session_present=True)]
    assert Peer(at, "uuid").take() == [mqtt.Connack(session_present=False)]


def test_a_release_under_way_is_sent_again() -> None:
    at = broker()
    client = Peer(at, "uuid", clean_session=False)
    client.say(mqtt.Subscribe(1, (("t", 2),)))
    Peer(at, "app").say(mqtt.Publish("t", b"x", 2, ident=1))
    client.say(mqtt.Pubrec(1))
    client.session.lost(1.0)
    again = Peer(at, "uuid", clean_session=False)
    assert again.take() == [mqtt.Connack(True), mqtt.Pubrel(1)]


def test_retained_messages_wait_for_subscribers_until_cleared() -> None:
    at = broker()
    foobot, app = Peer(at, "uuid"), Peer(at, "app")
    foobot.say(mqtt.Publish("state", b"on", 0, retain=True))
    app.say(mqtt.Subscribe(1, (("#", 1),)))
    assert app.take()[1:] == [mqtt.Suback(1, (1,)), mqtt.Publish("state", b"on", 0, retain=True)]
    foobot.say(mqtt.Publish("state", b"", 0, retain=True))
    assert at.retained == {}


def test_a_will_is_published_when_the_client_is_lost_and_only_then() -> None:
    at = broker()
    app = Peer(at, "app")
    app.say(mqtt.Subscribe(1, (("gone", 1),)))
    app.take()
    will = mqtt.Will("gone", b"uuid", 1)
    Peer(at, "uuid", will=will).say(mqtt.Disconnect())
    assert app.take() == []
    Peer(at, "uuid", will=will).session.lost(5.0)
    assert app.take() == [mqtt.Publish("gone", b"uuid", 1, ident=1)]


def test_connecting_anew_ends_the_earlier_connection() -> None:
    at = broker()
    earlier = Peer(at, "uuid")
    later = Peer(at, "uuid")
    assert earlier.session.closed
    assert later.take() == [mqtt.Connack()]
    earlier.session.lost(1.0)
    assert at.clients["uuid"].session is later.session


def test_refusals_and_violations() -> None:
    at = broker(users={"device": "secret"})
    wrong = Peer(at, "uuid", username="device", password=b"guess")
    assert wrong.take() == [mqtt.Connack(False, mqtt.BAD_LOGIN)]
    assert wrong.session.closed
    assert Peer(at, "uuid", username="device", password=b"secret").take() == [mqtt.Connack()]
    assert Peer(broker(), "", clean_session=False).take() == [mqtt.Connack(False, mqtt.BAD_CLIENT_ID)]
    for bad in (mqtt.Connect("again"), mqtt.Pingresp()):
        violator = Peer(broker(), "uuid")
        violator.say(bad)
        assert violator.session.closed
    early = broker().session(("192.168.1.9", 1), 0.0)
    answer = early.receive(mqtt.Pingreq().encode(), 0.0)
    assert answer is not None and answer.close


def test_the_queue_for_an_absent_client_is_bounded() -> None:
    at = broker(queue=2)
    away = Peer(at, "uuid", clean_session=False)
    away.say(mqtt.Subscribe(1, (("t", 1),)))
    away.session.lost(0.0)
    app = Peer(at, "app")
    for number in range(4):
        app.say(mqtt.Publish("t", bytes([number]), 1, ident=number + 1))
    again = Peer(at, "uuid", clean_session=False)
    assert [packet.payload for packet in again.take()[1:] if isinstance(packet, mqtt.Publish)] == [
        b"\2",
        b"\3",
    ]


def test_unsubscribing_ends_delivery() -> None:
    at = broker()
    app = Peer(at, "app")
    app.say(mqtt.Subscribe(1, (("t", 0),)), mqtt.Unsubscribe(2, ("t",)))
    Peer(at, "uuid").say(mqtt.Publish("t", b"x"))
    assert app.take() == [mqtt.Connack(), mqtt.Suback(1, (0,)), mqtt.Unsuback(2)]
