"""An MQTT 3.1.1 broker (section numbers are the standard's).

Rules of this file:
- A connection (`BrokerSession`) belongs to at most one client state (`_Client`), by client id; the
  state outlives the connection when the client asked for that (clean session 0).
- What another client's message puts into a connection stands in its outbox: it goes out with the
  connection's next answer, or at once when the world gave the session an `on_output`.
- The world asks `expired(now)` and then, or when a connection breaks, calls `lost(now)`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import Field

from testbed.host import Answer, Datagram
from testbed.models.base import Model
from testbed.models.units import Duration
from testbed.protocols import mqtt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.services.context import ServiceContext

_PINGREQ, _PINGRESP = mqtt.Pingreq().encode(), mqtt.Pingresp().encode()
_LOST_AFTER = 1.5
"""Of the keep-alive, without a packet (§3.1.2.10)."""


class BrokerOptions(Model):
    """An MQTT broker."""

    think: Duration = "5ms"
    """Time until it answers."""
    users: dict[str, str] = {}
    """User name -> password; empty takes everyone."""
    queue: int = Field(1000, ge=0)
    """Messages of QoS 1 and 2 kept for a client that is away."""


@dataclass(slots=True)
class _Client:
    """What the broker keeps of a client id: subscriptions and messages under way."""

    ident: str
    clean: bool
    most_queued: int
    subscriptions: dict[str, int] = field(default_factory=dict)
    session: BrokerSession | None = None
    under_way: dict[int, mqtt.Publish] = field(default_factory=dict)
    """Sent and not yet acknowledged (QoS 1: PUBACK, QoS 2: PUBREC)."""
    released: dict[int, None] = field(default_factory=dict)
    """QoS 2: PUBREL sent, PUBCOMP not yet here."""
    received: set[int] = field(default_factory=set)
    """QoS 2 of the client: taken, PUBREL not yet here."""
    queued: deque[mqtt.Publish] = field(default_factory=deque)
    last_ident: int = 0

    def send(self, message: mqtt.Publish) -> None:
        """Send a message to the client, or keep it until it is back; QoS 0 is not kept."""
        if self.session is None:
            if message.qos:
                self.queued.append(message)
                if len(self.queued) > self.most_queued:
                    self.queued.popleft()
            return
        if message.qos:
            message = replace(message, ident=self._next_ident())
            self.under_way[message.ident] = message
        self.session.put(message)

    def _next_ident(self) -> int:
        for _ in range(65535):
            self.last_ident = self.last_ident % 65535 + 1
            if self.last_ident not in self.under_way and self.last_ident not in self.released:
                break
        return self.last_ident

    def resume(self) -> None:
        """Send again what was under way, then what came meanwhile (§4.4, §3.1.2.4)."""
        assert self.session is not None
        for message in self.under_way.values():
            self.session.put(replace(message, duplicate=True))
        for ident in self.released:
            self.session.put(mqtt.Pubrel(ident))
        waiting, self.queued = self.queued, deque()
        for message in waiting:
            self.send(message)


class Broker:
    """Routes messages between the clients connected to it."""

    def __init__(self, options: BrokerOptions, context: ServiceContext) -> None:
        self.options = options
        self.clients: dict[str, _Client] = {}
        self.retained: dict[str, mqtt.Publish] = {}
        self._given_ids = 0

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Stay silent: MQTT has no datagrams."""
        return ()

    def session(self, peer: tuple[str, int], now: float) -> BrokerSession:
        """Open a connection."""
        return BrokerSession(self, now)

    def forget(self) -> None:
        """Lose all sessions and retained messages, as a restart without a disk does."""
        self.clients.clear()
        self.retained.clear()

    def publish(self, message: mqtt.Publish) -> None:
        """Give a message to every subscriber, once, with the greatest QoS that was granted to it."""
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message
            else:
                self.retained.pop(message.topic, None)  # an empty one clears it (§3.3.1.3)
        for client in list(self.clients.values()):
            granted = [
                qos for pattern, qos in client.subscriptions.items() if mqtt.matches(pattern, message.topic)
            ]
            if granted:
                qos = min(message.qos, max(granted))
                client.send(mqtt.Publish(message.topic, message.payload, qos))

    def new_id(self) -> str:
        """Return a client id for a client that has none (§3.1.3.1)."""
        self._given_ids += 1
        return f"auto-{self._given_ids}"


class BrokerSession:
    """One connection to the broker."""

    def __init__(self, broker: Broker, now: float) -> None:
        self.on_output: Callable[[], None] | None = None
        """Called when another client's message put something into the outbox."""
        self.closed = False
        """The connection is to be closed, or already is."""
        self._broker = broker
        self._decoder = mqtt.Decoder()
        self._client: _Client | None = None
        self._keep_alive_s = 0
        self._will: mqtt.Will | None = None
        self._heard = now
        self._outbox = bytearray()
        self._receiving = False
        self._pong = Answer(_PINGRESP, broker.options.think)

    def receive(self, data: bytes, now: float) -> Answer | None:
        """Take the client's bytes; the answer may hold other clients' messages too."""
        if self.closed:
            return None
        self._heard = now
        if data == _PINGREQ and self._client is not None and not self._outbox and self._decoder.empty:
            return self._pong
        self._receiving = True
        try:
            for packet in self._decoder.feed(data):
                if not self._take(packet):
                    break
        except mqtt.Malformed:
            self._end(publish_will=True)
        self._receiving = False
        output = self.take_output()
        return Answer(output, self._broker.options.think, self.closed) if output or self.closed else None

    def take_output(self) -> bytes:
        """Return and forget what is to be sent to the client."""
        output = bytes(self._outbox)
        self._outbox.clear()
        return output

    def put(self, packet: mqtt.Packet) -> None:
        """Put a packet for the client into the outbox."""
        self._outbox += packet.encode()
        if not self._receiving and self.on_output is not None:
            self.on_output()

    def expired(self, now: float) -> bool:
        """Tell whether the client was silent for more than one and a half keep-alives."""
        return bool(self._keep_alive_s) and now - self._heard > _LOST_AFTER * self._keep_alive_s

    def lost(self, now: float) -> None:
        """End the session because the connection broke or expired: the will is published."""
        self._end(publish_will=True)

    def _end(self, publish_will: bool) -> None:
        self.closed = True
        client, self._client = self._client, None
        will, self._will = self._will, None
        if client is not None and client.session is self:
            client.session = None
            if client.clean:
                self._broker.clients.pop(client.ident, None)
        if publish_will and will is not None:
            self._broker.publish(_message_of(will))

    def _take(self, packet: mqtt.Packet) -> bool:
        """Act on a packet; False when it was the connection's last."""
        if self._client is None:
            if not isinstance(packet, mqtt.Connect):
                raise mqtt.Malformed("the first packet must be CONNECT (§3.1)")
            self._connect(packet)
        elif isinstance(packet, mqtt.Publish):
            self._published(packet, self._client)
        elif isinstance(packet, mqtt.Subscribe):
            self._subscribe(packet, self._client)
        elif isinstance(packet, mqtt.Unsubscribe):
            for pattern in packet.topics:
                self._client.subscriptions.pop(pattern, None)
            self.put(mqtt.Unsuback(packet.ident))
        elif isinstance(packet, mqtt.Pingreq):
            self.put(mqtt.Pingresp())
        elif isinstance(packet, mqtt.Disconnect):
            self._end(publish_will=False)
        else:
            self._acknowledged(packet, self._client)
        return not self.closed

    def _connect(self, packet: mqtt.Connect) -> None:
        code = self._refusal(packet)
        if code != mqtt.ACCEPTED:
            self.put(mqtt.Connack(False, code))
            self.closed = True
            return
        ident = packet.client_id or self._broker.new_id()
        earlier = self._broker.clients.get(ident)
        if earlier is not None and earlier.session is not None:
            earlier.session.taken_over()
            earlier = self._broker.clients.get(ident)
        present = earlier is not None and not packet.clean_session
        if earlier is None or packet.clean_session:
            earlier = _Client(ident, packet.clean_session, self._broker.options.queue)
            self._broker.clients[ident] = earlier
        earlier.session, self._client = self, earlier
        self._keep_alive_s, self._will = packet.keep_alive_s, packet.will
        self.put(mqtt.Connack(present))
        earlier.resume()

    def taken_over(self) -> None:
        """End the session because its client connected anew (§3.1.4)."""
        self._end(publish_will=True)
        if self.on_output is not None:
            self.on_output()

    def _refusal(self, packet: mqtt.Connect) -> int:
        if not packet.client_id and not packet.clean_session:
            return mqtt.BAD_CLIENT_ID
        users = self._broker.options.users
        if users and users.get(packet.username or "") != (packet.password or b"").decode("utf-8", "replace"):
            return mqtt.BAD_LOGIN
        return mqtt.ACCEPTED

    def _published(self, packet: mqtt.Publish, client: _Client) -> None:
        if packet.qos == 1:
            self.put(mqtt.Puback(packet.ident))
        elif packet.qos == 2:
            self.put(mqtt.Pubrec(packet.ident))
            if packet.ident in client.received:
                return  # the same message again: it was routed the first time (§4.3.3)
            client.received.add(packet.ident)
        self._broker.publish(packet)

    def _subscribe(self, packet: mqtt.Subscribe, client: _Client) -> None:
        client.subscriptions.update(packet.topics)
        self.put(mqtt.Suback(packet.ident, tuple(qos for _, qos in packet.topics)))
        for pattern, qos in packet.topics:
            for topic, kept in self._broker.retained.items():
                if mqtt.matches(pattern, topic):
                    client.send(replace(kept, qos=min(qos, kept.qos), ident=0, duplicate=False))

    def _acknowledged(self, packet: mqtt.Packet, client: _Client) -> None:
        if isinstance(packet, mqtt.Puback):
            client.under_way.pop(packet.ident, None)
        elif isinstance(packet, mqtt.Pubrec):
            if client.under_way.pop(packet.ident, None) is not None or packet.ident in client.released:
                client.released[packet.ident] = None
                self.put(mqtt.Pubrel(packet.ident))
        elif isinstance(packet, mqtt.Pubrel):
            client.received.discard(packet.ident)
            self.put(mqtt.Pubcomp(packet.ident))
        elif isinstance(packet, mqtt.Pubcomp):
            client.released.pop(packet.ident, None)
        else:
            raise mqtt.Malformed("a packet that only brokers send, or a second CONNECT")


def _message_of(will: mqtt.Will) -> mqtt.Publish:
    return mqtt.Publish(will.topic, will.payload, will.qos, will.retain)
