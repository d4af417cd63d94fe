"""Small services over a connection: Weave, Google's push channel, a plug's local control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from testbed.host import Answer, Datagram
from testbed.models.base import Model
from testbed.models.units import Duration
from testbed.protocols import gcm, tplink, weave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.services.context import ServiceContext


class _Framed(Protocol):
    """What a `FramedSession` asks of its service."""

    think_s: float

    def next_length(self, data: bytes) -> int | None:
        """Return the bytes of the first message, None while it is not whole; ValueError on garbage."""

    def answer(self, message: bytes, now: float) -> bytes:
        """Return the answer to one message (nothing is silence); ValueError on garbage."""


class FramedSession:
    """A connection whose messages say how long they are; garbage closes it."""

    def __init__(self, service: _Framed) -> None:
        self._service = service
        self._buffer = b""
        self._closed = False

    def receive(self, data: bytes, now: float) -> Answer | None:
        """Answer the whole messages that there are."""
        if self._closed:
            return None
        self._buffer += data
        given = b""
        try:
            while self._buffer and (length := self._service.next_length(self._buffer)) is not None:
                message, self._buffer = self._buffer[:length], self._buffer[length:]
                given += self._service.answer(message, now)
        except ValueError:
            self._closed, self._buffer = True, b""
            return Answer(given, self._service.think_s, True)
        return Answer(given, self._service.think_s) if given else None


class StreamOnly:
    """Base of services that answer no datagrams."""

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Stay silent."""
        return ()


class WeaveOptions(Model):
    """Nest's cloud as Weave devices see it."""

    think: Duration = "30ms"
    """Time until it answers."""


class Weave(StreamOnly):
    """Answers each Weave message by one of the length that it asks for."""

    def __init__(self, options: WeaveOptions, context: ServiceContext) -> None:
        self.think_s = options.think

    def session(self, peer: tuple[str, int], now: float) -> FramedSession:
        """Open a connection."""
        return FramedSession(self)

    def next_length(self, data: bytes) -> int | None:
        """Return the bytes of the first message, None while it is not whole."""
        return weave.length(data)

    def answer(self, message: bytes, now: float) -> bytes:
        """Return the answer to one message."""
        return weave.answer(weave.parse(message))


class GcmOptions(Model):
    """Google's push servers."""

    think: Duration = "20ms"
    """Time until it answers."""


class Gcm(StreamOnly):
    """Logs clients in and acknowledges their heartbeats."""

    def __init__(self, options: GcmOptions, context: ServiceContext) -> None:
        self.think_s = options.think

    def session(self, peer: tuple[str, int], now: float) -> FramedSession:
        """Open a connection."""
        return FramedSession(_GcmClient(self.think_s))


class _GcmClient:
    """What the server knows of one connection."""

    def __init__(self, think_s: float) -> None:
        self.think_s = think_s
        self._logged_in = False
        self._received = 0

    def next_length(self, data: bytes) -> int | None:
        found = gcm.next_frame(data, first=not self._logged_in)
        return None if found is None else found.length

    def answer(self, message: bytes, now: float) -> bytes:
        frame = gcm.parse(message, first=not self._logged_in)
        self._received += 1
        if not self._logged_in:
            if frame.tag != gcm.LOGIN_REQUEST:
                raise ValueError("the first MCS message must be a login")
            self._logged_in = True
            return gcm.login_response(now)
        if frame.tag == gcm.CLOSE:
            raise ValueError("the client closes the channel")
        return gcm.heartbeat_ack(self._received) if frame.tag == gcm.HEARTBEAT_PING else b""


class LocalControlOptions(Model):
    """A smart plug's local control."""

    alias: str = "plug"
    """Name that its owner gave it."""
    model: str = "HS110(EU)"
    """Model that it reports."""
    mac: str = "50:C7:BF:00:00:00"
    """MAC that it reports."""
    firmware: str = "1.1.4 Build 170417 Rel.145118"
    """Firmware that it reports."""
    think: Duration = "15ms"
    """Time until it answers."""


class LocalControl:
    """Answers TP-Link's JSON commands over TCP and UDP; the relay remembers its state."""

    def __init__(self, options: LocalControlOptions, context: ServiceContext) -> None:
        self.think_s = options.think
        self._options = options
        self.relay_on = True

    def handle(self, data: bytes, peer: tuple[str, int], now: float) -> Sequence[Datagram]:
        """Answer a command in a datagram."""
        try:
            command = tplink.parse_datagram(data)
        except ValueError:
            return ()
        return (Datagram(tplink.datagram(self._execute(command)), self.think_s),)

    def session(self, peer: tuple[str, int], now: float) -> FramedSession:
        """Open a connection."""
        return FramedSession(self)

    def next_length(self, data: bytes) -> int | None:
        """Return the bytes of the first message, None while it is not whole."""
        return tplink.length(data)

    def answer(self, message: bytes, now: float) -> bytes:
        """Return the answer to one command."""
        return tplink.message(self._execute(tplink.parse(message)))

    def _execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run every action of the command and return their results in the same shape."""
        result: dict[str, Any] = {}
        for module, actions in command.items():
            known = isinstance(actions, dict) and module in ("system", "emeter")
            result[module] = (
                {action: self._act(module, action, values) for action, values in actions.items()}
                if known
                else {"err_code": -1, "err_msg": "module not support"}
            )
        return result

    def _act(self, module: str, action: str, values: Any) -> dict[str, Any]:
        if (module, action) == ("system", "get_sysinfo"):
            return self._sysinfo()
        if (module, action) == ("emeter", "get_realtime"):
            power = {"current": 0.087, "voltage": 239.5, "power": 12.4} if self.relay_on else {"power": 0}
            return {**power, "total": 1.9, "err_code": 0}
        if (module, action) == ("system", "set_relay_state") and isinstance(values, dict):
            self.relay_on = bool(values.get("state"))
            return {"err_code": 0}
        return {"err_code": -2, "err_msg": "member not support"}

    def _sysinfo(self) -> dict[str, Any]:
        known = self._options
        return {
            "err_code": 0, "sw_ver": known.firmware, "hw_ver": "1.0", "type": "IOT.SMARTPLUGSWITCH",
            "model": known.model, "mac": known.mac, "alias": known.alias,
            "dev_name": "Wi-Fi Smart Plug With Energy Monitoring", "relay_state": int(self.relay_on),
            "active_mode": "schedule", "feature": "TIM:ENE", "updating": 0, "rssi": -47, "led_off": 0,
        }  # fmt: skip
