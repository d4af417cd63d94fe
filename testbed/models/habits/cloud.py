"""Parameters of the habits that talk to servers of the Internet over TCP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.models.base import Backoff
from testbed.models.device import Habit
from testbed.models.habits.parts import Burst, Endpoint, Exchange, Retries, Scheduled
from testbed.models.units import Duration, Share, Size


class CloudSession(Habit):
    """Keep one connection to the vendor's cloud, with heartbeats and telemetry inside."""

    behaviour: Literal["cloud_session"]
    endpoint: Endpoint
    """Where to connect."""
    main: bool = False
    """The session that registers the device and decides whether it believes itself online."""
    heartbeat: Exchange
    """Small exchange that shows each side that the other one is there."""
    timeout: Duration = "10s"
    """Wait for the answer of any exchange; then the connection is aborted."""
    telemetry: Exchange | None = None
    """Further exchanges, while the device is registered."""
    registration: tuple[Burst, ...] = ()
    """After the first connection since the link came up: the device tells and asks for everything."""
    resumption: tuple[Burst, ...] = ()
    """After a connection that replaces a lost one."""
    registers_again_after: Duration = "0s"
    """A device that only resumed its session counts as registered again after this time."""
    retries: Retries
    """Waits before it connects again."""
    lifetime: Duration | None = Field(None, gt=0)
    """The connection is closed and opened anew after this time."""
    keepalive: Duration | None = Field(None, gt=0)
    """Idle time after which the kernel probes the connection; null never."""


class ShortSession(Scheduled):
    """Connect, exchange something, close; once in every round."""

    behaviour: Literal["short_session"]
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    """All of them in turn in each round, or one (see `walk`)."""
    walk: bool = False
    """One endpoint a round, the next one in the next round."""
    burst: Burst
    """What is exchanged."""
    method: Literal["GET", "POST"] = "POST"
    """HTTP method of the requests."""
    path: str = "/"
    """HTTP path of the requests."""
    timeout: Duration = "10s"
    """Wait for each answer."""
    attempts: int = Field(1, ge=1)
    """Tries in a round."""
    retry: Backoff = Backoff(first="2s", factor=2)
    """Waits between these tries."""
    lasts: Duration | None = Field(None, gt=0)
    """Go on for this long after each stimulus `on`, with the period `every`, then wait for the next."""


class MqttSession(Habit):
    """Keep an MQTT 3.1.1 session: keep-alive, subscriptions, readings."""

    behaviour: Literal["mqtt_session"]
    endpoint: Endpoint
    """Where the broker is."""
    main: bool = True
    """The session that decides whether the device believes itself online."""
    client_id: str = "device"
    """``{mac}`` stands for the device's MAC without colons."""
    user: str | None = None
    """User name in CONNECT; null for none."""
    password: str | None = None
    """Password in CONNECT; null for none."""
    clean_session: bool = False
    """Ask the broker to forget the session when the connection ends."""
    keep_alive: int = Field(60, ge=1, le=65535)
    """Seconds, as CONNECT carries it; a ping goes out when nothing else did for so long."""
    timeout: Duration = "10s"
    """Wait for the answer of a ping or another packet; then the connection is aborted."""
    subscribe: tuple[str, ...] = ()
    """Topics subscribed to after connecting."""
    publish_topic: str
    """Topic of the readings."""
    publish_every: Duration = Field(gt=0)
    """Time between readings."""
    publish_bytes: Size = Field(gt=0)
    """Bytes of a reading's payload."""
    qos: Literal[0, 1] = 0
    """Of the readings: 0 expects no answer, 1 a PUBACK."""
    announce: tuple[str, ...] = ()
    """Topics published once at the first session after the link came up."""
    announce_bytes: Size = "200B"
    """Bytes of each such payload."""
    retries: Retries
    """Waits before it connects again."""


class WeaveCheckin(Scheduled):
    """Wake, tell the Weave service that all is well, sleep again."""

    behaviour: Literal["weave_checkin"]
    endpoint: Endpoint
    """Where to connect."""
    messages: tuple[Burst, ...] = Field(min_length=1)
    """Messages of a routine contact; sizes are those of whole Weave messages."""
    registration: tuple[Burst, ...] = ()
    """At the first contact after the link came up."""
    timeout: Duration = "10s"
    """Wait for each answer."""
    retry: Backoff = Backoff(first="15s")
    """Waits after a failed contact, when the link came up since the last good one."""
    attempts: int = Field(3, ge=1)
    """Tries of a routine contact, before it waits for the next one."""
    notices_link: bool = True
    """The device wakes and checks in when its Wi-Fi comes (back) up."""
    think: Duration = "1s"
    """Time from waking to the first message: sensors are read."""


class PushChannel(Habit):
    """Keep the push channel of Google Cloud Messaging (TCP 5228, TLS)."""

    behaviour: Literal["push_channel"]
    endpoint: Endpoint
    """Where to connect."""
    heartbeat_every: Duration = Field(gt=0)
    """Time between heartbeats."""
    heartbeat_first: Duration | None = Field(None, gt=0)
    """That time after a login, where it grows; null: the same from the beginning."""
    heartbeat_growth: float = Field(1.0, ge=1)
    """Factor by which it grows with each answer, up to `heartbeat_every` (an adaptive heartbeat)."""
    timeout: Duration = "20s"
    """Wait for the answer of a heartbeat or login; then the connection is aborted."""
    login_again_every: Duration | None = Field(None, gt=0)
    """The channel is closed and opened anew after this time."""
    login_jitter: Share = 0.0
    """That time is drawn uniformly within ± this share of itself."""
    retries: Retries
    """Waits before it connects again."""


class FirmwareUpdate(Habit):
    """Download an update when its vendor has released one (stimulus `firmware`)."""

    behaviour: Literal["firmware_update"]
    endpoint: Endpoint
    """Where the image is."""
    path: str = "/firmware.bin"
    """HTTP path of the image."""
    chunk: Size = Field("64kB", gt=0)
    """Bytes of each range request's answer."""
    parallel: int = Field(1, ge=1, le=8)
    """Connections at once."""
    size: Size = Field("4MB", gt=0)
    """Bytes of an image, where the release names none."""
    delay: Duration = "0s"
    """Longest time between the release and the download, drawn uniformly."""
    timeout: Duration = "60s"
    """Wait for each chunk."""
    retry: Backoff = Backoff(first="60s", factor=2, cap="1h")
    """Waits after a failed chunk."""
