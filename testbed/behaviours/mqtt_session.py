"""Keep an MQTT 3.1.1 session: connect, subscribe, publish readings, stay alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.behaviours import facts
from testbed.behaviours.comeback import Comeback
from testbed.behaviours.dial import Dialler
from testbed.host import About, NetError, StreamLost
from testbed.protocols import mqtt

if TYPE_CHECKING:
    from testbed.host import Host, Stream
    from testbed.models.habits import MqttSession

_PINGREQ = mqtt.Pingreq().encode()


async def mqtt_session(host: Host, p: MqttSession) -> None:
    """Be connected to the broker, and come back whenever the connection is lost."""
    dialler = Dialler(host, p.endpoint, p.thread)
    comeback = Comeback(host, p.retries)
    while True:
        await facts.ready(host, p.requires)
        try:
            stream = await dialler.open(comeback.why())
        except NetError as problem:
            _offline(host, p, problem)
            await comeback.wait(problem)
            continue
        try:
            await _session(host, p, stream, comeback, dialler.about)
        except (NetError, mqtt.Malformed) as error:
            stream.abort()
            lost = error if isinstance(error, NetError) else StreamLost()
            host.board.set(p.name, False)
            _offline(host, p, lost)
            await comeback.wait(lost)
        finally:
            host.board.set(p.name, False)


def _offline(host: Host, p: MqttSession, problem: NetError) -> None:
    if p.main:
        facts.went_offline(host, f"{p.name}: {problem.outcome}")


async def _session(host: Host, p: MqttSession, stream: Stream, comeback: Comeback, about: About) -> None:
    """Live one connection until it is lost."""
    first = not comeback.validated
    device = host.mac.replace(":", "")
    password = p.password.encode() if p.password is not None else None
    connect = mqtt.Connect(
        p.client_id.format(mac=device), p.keep_alive, p.clean_session, p.user, password if p.user else None
    )
    answer = mqtt.decode(await stream.request(connect.encode(), mqtt.complete, p.timeout, about))
    if not isinstance(answer, mqtt.Connack) or answer.code != mqtt.ACCEPTED:
        raise StreamLost
    ident = 0
    if p.subscribe and not answer.session_present:
        ident += 1
        topics = tuple((topic.format(mac=device), p.qos) for topic in p.subscribe)
        await stream.request(mqtt.Subscribe(ident, topics).encode(), mqtt.complete, p.timeout, about)
    if first:
        for topic in p.announce:
            message = mqtt.Publish(topic.format(mac=device), bytes(p.announce_bytes))
            await stream.send(message.encode(), about)
    comeback.reached()
    if p.main:
        facts.went_online(host, f"{p.name}: connected")
        host.board.set(facts.REGISTERED, True)
        host.board.stimulate(facts.REGISTERED)
    host.board.set(p.name, True)
    topic, payload = p.publish_topic.format(mac=device), _reading(p.publish_bytes)
    unnumbered = mqtt.Publish(topic, payload).encode()
    keep_alive_s = float(p.keep_alive)
    ping_due = host.now() + keep_alive_s
    publish_due = host.now() + p.publish_every
    while True:
        due = min(ping_due, publish_due)
        await host.sleep_until(due)
        if due == publish_due:
            publish_due += p.publish_every
            if p.qos:
                ident = ident % 65535 + 1
                message = mqtt.Publish(topic, payload, p.qos, ident=ident)
                await stream.request(message.encode(), mqtt.complete, p.timeout, about)
            else:
                await stream.send(unnumbered, about)
        else:
            await stream.request(_PINGREQ, mqtt.complete, p.timeout, about)
        ping_due = due + keep_alive_s  # the keep-alive counts from the last packet sent (§3.1.2.10)


def _reading(size: int) -> bytes:
    """Return a reading of that many bytes: a JSON array of numbers."""
    text = '[{"s":1523541600,"pm":12.4,"t":21.3,"h":43.1,"c":612,"v":178,"a":24.6}'
    return (text + "," * max(0, size - len(text) - 1))[: size - 1].encode() + b"]"
