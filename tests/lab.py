"""A small real lab in namespaces of its own: a machine, and behind its cable a network of others' make.

The network has dnsmasq (DHCP, DNS), an NTP server that speaks through ntplib, and Python's own HTTPS
server. Everything goes with the two processes that hold the namespaces.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ntplib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTER, SERVER, NETWORK = "10.77.0.1", "10.77.1.1", "10.77.0"
_SINCE_1900 = 2_208_988_800


class Lab:
    """The machine's namespace and the network's, joined by a cable from `eth9` to `lab0`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machine, self.network = (subprocess.Popen(["unshare", "--net", "sleep", "600"]) for _ in "12")
        self.programs: list[subprocess.Popen[bytes]] = []
        own = Path("/proc/self/ns/net").readlink()
        for process in (self.machine, self.network):
            while Path(f"/proc/{process.pid}/ns/net").readlink() == own:
                time.sleep(0.01)
        self.on_machine(
            "ip", "link", "add", "eth9", "type", "veth", "peer", "lab0", "netns", self.network.pid
        )
        self.on_machine("ip", "link", "set", "eth9", "up")
        self.on_machine("ip", "addr", "add", f"{NETWORK}.9/24", "dev", "eth9")
        for words in (
            "link set lo up", "link set lab0 up",
            f"addr add {ROUTER}/24 dev lab0", f"addr add {SERVER}/32 dev lo",
        ):  # fmt: skip
            self.on_network("ip", *words.split())

    def inside(self, process: subprocess.Popen[bytes], *words: Any) -> list[str]:
        return ["nsenter", "-t", str(process.pid), "-n", "--", *map(str, words)]

    def on_machine(self, *words: Any) -> str:
        return subprocess.run(
            self.inside(self.machine, *words), capture_output=True, text=True, check=True
        ).stdout

    def on_network(self, *words: Any) -> str:
        return subprocess.run(
            self.inside(self.network, *words), capture_output=True, text=True, check=True
        ).stdout

    def beside(self, log: str, *words: Any) -> Path:
        """Run a program in the network; what it prints goes to the returned file."""
        path = self.folder / log
        with path.open("wb") as output:
            self.programs.append(
                subprocess.Popen(self.inside(self.network, *words), stdout=output, stderr=subprocess.STDOUT)
            )
        return path

    def start_services(self) -> Path:
        """Start DHCP, DNS, NTP and HTTPS; return dnsmasq's log."""
        log = self.beside(
            "dnsmasq.log", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv",
            "--user=root", f"--dhcp-range={NETWORK}.100,{NETWORK}.150,1h", "--dhcp-authoritative",
            f"--dhcp-leasefile={self.folder / 'leases'}", f"--address=/#/{SERVER}", "--log-queries",
        )  # fmt: skip
        said = self.beside("servers.log", sys.executable, "-m", "tests.lab", self.folder)
        until(lambda: "ready" in said.read_text() and "started" in log.read_text())
        return log

    def machine_state(self) -> str:
        """What a device on the machine's interface must leave as it is."""
        parts = ("-details link", "-4 addr", "-4 route show table all", "-4 rule", "-4 neigh")
        shown = [self.on_machine("ip", *words.split()) for words in parts]
        return "\n".join([*shown, self.on_machine("nft", "list", "ruleset")])

    def close(self) -> None:
        for process in (*self.programs, self.machine, self.network):
            process.kill()
            process.wait()


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    built = Lab(folder)
    try:
        yield built
    finally:
        built.close()


def until(true: Any, limit_s: float = 20.0) -> None:
    """Wait until `true()`; fails when that takes too long."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"x" * 4000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST


def _serve_ntp() -> None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((SERVER, 123))
    while True:
        data, peer = opened.recvfrom(1024)
        asked = ntplib.NTPPacket()
        asked.from_data(data)
        now = time.time() + _SINCE_1900
        answer = ntplib.NTPPacket(version=asked.version, mode=4, tx_timestamp=now)
        answer.stratum, answer.ref_timestamp, answer.recv_timestamp = 2, now - 60, now
        answer.orig_timestamp = asked.tx_timestamp
        packed = bytearray(answer.to_data())
        packed[24:32] = data[40:48]  # the client's own bits: floats would round them
        opened.sendto(packed, peer)


def serve(folder: Path) -> None:
    """Be the network's NTP and HTTPS servers."""
    threading.Thread(target=_serve_ntp, daemon=True).start()
    server = http.server.ThreadingHTTPServer((SERVER, 443), _Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
