"""Clients that others wrote talk to our services over sockets, and our MQTT codec to mosquitto."""

from __future__ import annotations

import socket
import subprocess
import time
from http.client import HTTPConnection
from queue import Queue
from typing import TYPE_CHECKING, Any

import dnslib
import ntplib
import pytest

from testbed.protocols import mqtt
from testbed.services import ServiceContext, Zone
from testbed.services.registry import build
from tests.sockets import free_port, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def test_ntplibs_client_takes_the_time_from_our_server() -> None:
    with serve(build("ntp", {"stratum": 3}, ServiceContext("pool"))) as (host, port):
        stats = ntplib.NTPClient().request(host, port=port, version=3)
    assert stats.stratum == 3
    assert abs(stats.offset) < 0.5


def test_dnslibs_client_resolves_by_our_resolver() -> None:
    zone = Zone()
    zone.add(["devs.tplinkcloud.com"], ["198.18.0.7"], chain=["elb.example.net"])
    with serve(build("resolver", {}, ServiceContext("isp", zone=zone))) as (host, port):
        answer = dnslib.DNSRecord.parse(dnslib.DNSRecord.question("devs.tplinkcloud.com").send(host, port))
    assert [str(record.rdata) for record in answer.rr] == ["elb.example.net.", "198.18.0.7"]


def test_pythons_http_client_reads_our_web_server_over_one_connection() -> None:
    with serve(build("web", {"paths": {"/image": {"bytes": "300kB"}}}, ServiceContext("web"))) as (
        host,
        port,
    ):
        client = HTTPConnection(host, port, timeout=10)
        client.request("GET", "/image")
        image = client.getresponse()
        assert image.status == 200
        assert len(image.read()) == int(image.headers["Content-Length"])
        client.request("POST", "/beat", body=b"x" * 5000, headers={"X-Answer-Bytes": "450"})
        assert client.getresponse().read()
        client.close()


class Paho:
    """A paho-mqtt client whose callbacks end in a queue."""

    def __init__(self, address: tuple[str, int], ident: str, **options: Any) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.seen: Queue[tuple[Any, ...]] = Queue()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id=ident, **options)
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.seen.put(
            ("connected", flags.session_present, code.value)
        )
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.seen.put(
            ("granted", [code.value for code in codes])
        )
        self.client.on_message = lambda _c, _u, message: self.seen.put(
            (message.topic, message.payload, message.qos, message.retain)
        )
        self.address = address

    def start(self) -> tuple[Any, ...]:
        self.client.connect(*self.address, keepalive=10)
        self.client.loop_start()
        return self.next()

    def next(self) -> tuple[Any, ...]:
        return self.seen.get(timeout=10)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_clients_exchange_messages_through_our_broker(qos: int) -> None:
    with serve(build("broker", {}, ServiceContext("broker"))) as address:
        app, foobot = Paho(address, "app"), Paho(address, "uuid")
        assert app.start() == ("connected", False, 0)
        app.client.subscribe("device/+/sensor/push", qos)
        assert app.next() == ("granted", [qos])
        assert foobot.start() == ("connected", False, 0)
        for number in range(5):
            sent = foobot.client.publish("device/uuid/sensor/push", b"[%d]" % number, qos)
            sent.wait_for_publish(10)
            assert sent.is_published()
        assert [app.next() for _ in range(5)] == [
            ("device/uuid/sensor/push", b"[%d]" % number, qos, False) for number in range(5)
        ]
        app.stop()
        foobot.stop()


def test_paho_finds_its_session_retained_messages_and_queue_again() -> None:
    with serve(build("broker", {}, ServiceContext("broker"))) as address:
        app = Paho(address, "app")
        app.start()
        app.client.publish("state", b"on", 1, retain=True).wait_for_publish(10)
        foobot = Paho(address, "uuid", clean_session=False)
        assert foobot.start() == ("connected", False, 0)
        foobot.client.subscribe("#", 1)
        assert {foobot.next()[0], foobot.next()[0]} == {"granted", "state"}
        foobot.stop()
        app.client.publish("cmd", b"while away", 1).wait_for_publish(10)
        again = Paho(address, "uuid", clean_session=False)
        assert again.start() == ("connected", True, 0)
        assert again.next() == ("cmd", b"while away", 1, False)
        again.stop()
        app.stop()


@pytest.fixture
def mosquitto(needs: Callable[..., None], tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Start mosquitto on 127.0.0.1 and give its address."""
    needs("mosquitto")
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
    process = subprocess.Popen(
        ["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            assert process.poll() is None, "mosquitto did not start"
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)


class Line:
    """A plain socket that speaks our codec."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.decoder = mqtt.Decoder()
        self.ready: list[mqtt.Packet] = []

    def say(self, packet: mqtt.Packet) -> None:
        self.socket.sendall(packet.encode())

    def hear(self) -> mqtt.Packet:
        while not self.ready:
            data = self.socket.recv(65536)
            assert data, "the broker closed the connection"
            self.ready = self.decoder.feed(data)
        return self.ready.pop(0)


@pytest.mark.system
def test_our_codec_is_understood_by_mosquitto(mosquitto: tuple[str, int]) -> None:
    line = Line(mosquitto)
    will = mqtt.Will("gone", b"bye", 1, True)
    line.say(mqtt.Connect("uuid", 10, False, "device", b"password", will))
    assert line.hear() == mqtt.Connack(False)
    line.say(mqtt.Subscribe(1, (("device/#", 2), ("cmd", 1))))
    assert line.hear() == mqtt.Suback(1, (2, 1))
    line.say(mqtt.Publish("device/a", b"x" * 300, 2, ident=2))
    assert line.hear() == mqtt.Pubrec(2)
    line.say(mqtt.Pubrel(2))
    rest = [line.hear(), line.hear()]
    assert mqtt.Pubcomp(2) in rest
    (came,) = (packet for packet in rest if isinstance(packet, mqtt.Publish))
    assert (came.topic, came.payload, came.qos) == ("device/a", b"x" * 300, 2)
    line.say(mqtt.Pubrec(came.ident))
    assert line.hear() == mqtt.Pubrel(came.ident)
    line.say(mqtt.Pubcomp(came.ident))
    line.say(mqtt.Pingreq())
    assert line.hear() == mqtt.Pingresp()
    line.say(mqtt.Unsubscribe(3, ("cmd",)))
    assert line.hear() == mqtt.Unsuback(3)
    line.say(mqtt.Disconnect())
    assert line.socket.recv(10) == b""
    again = Line(mosquitto)
    again.say(mqtt.Connect("uuid", 10, False))
    assert again.hear() == mqtt.Connack(True)
    again.socket.close()
    line.socket.close()
