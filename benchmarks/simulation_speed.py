"""Play the steady week and say how fast frames come, beside scapy building frames of the same kinds.

    python benchmarks/simulation_speed.py [--scenario steady-week] [--until DAYS] [--seed 1]

Frames a second are those of the whole run: simulation, rendering, labels, log and files. Memory is the
sum of the peaks of both processes, so an upper bound. Scapy builds as many frames as it can in a few
seconds from fields that are ready in memory (addresses, ports, numbers, options, payload), lengths and
checksums included; it writes no file. The ratio is what counts: it is measured in one run, on one machine.
"""

from __future__ import annotations

import argparse
import resource
import struct
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE = 2_000
PEER_S = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", default="steady-week")
    parser.add_argument("--until", type=float, metavar="DAYS")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        until_s = wanted.until * 86_400 if wanted.until else None
        began = time.perf_counter()
        summary = run(wanted.scenario, out=Path(folder) / "run", seed=wanted.seed, until_s=until_s)
        wall_s = time.perf_counter() - began
        peaks = [
            resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        frames = list(sample(Path(folder) / "run" / "capture.pcap", summary.frames))
    ours = summary.frames / wall_s
    builders, kinds = plan(frames)
    theirs = scapy_rate(builders)
    days = summary.virtual_s / 86_400
    print(f"{wanted.scenario}: {days:.2f} days, {summary.frames:,} frames, {summary.bytes / 1e6:,.0f} MB")
    print(f"wall            {wall_s:10.1f} s")
    print(f"peak memory     {sum(peaks):10.0f} MiB (simulation {peaks[0]:.0f}, writer {peaks[1]:.0f})")
    print(f"frames a second {ours:10,.0f}")
    print(f"scapy           {theirs:10,.0f} ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())})")
    print(f"ratio           {ours / theirs:10.1f}")


def sample(capture: Path, total: int) -> Iterator[bytes]:
    """Return frames spread evenly over a capture."""
    step = max(1, total // SAMPLE)
    with capture.open("rb") as file:
        file.seek(24)
        for index in range(total):
            _, _, size, _ = struct.unpack("<IIII", file.read(16))
            frame = file.read(size)
            if index % step == 0:
                yield frame


def plan(frames: list[bytes]) -> tuple[list[Callable[[], bytes]], Counter[str]]:
    """Return for each frame what builds it from its fields with scapy, and how many there are of a kind."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.l2 import ARP, Ether
    from scapy.packet import Raw

    kinds: Counter[str] = Counter()
    builders: list[Callable[[], bytes]] = []
    derived = {"len", "chksum", "ihl", "dataofs"}

    def fields(layer: Any) -> dict[str, Any]:
        return {name: value for name, value in layer.fields.items() if name not in derived}

    for frame in frames:
        parsed: Any = Ether(frame)
        if ARP in parsed:
            stack = [(Ether, fields(parsed)), (ARP, fields(parsed[ARP]))]
            kinds["ARP"] += 1
        else:
            stack = [(Ether, fields(parsed)), (IP, fields(parsed[IP]))]
            upper = next((kind for kind in (TCP, UDP, ICMP) if isinstance(parsed[IP].payload, kind)), None)
            body = bytes(parsed[IP].payload)
            if upper is not None:
                stack.append((upper, fields(parsed[upper])))
                body = bytes(parsed[upper].payload)
            if body:
                stack.append((Raw, {"load": body}))
            kinds[upper.__name__ if upper is not None else "IGMP"] += 1
        if build(stack) != frame:
            raise SystemExit("scapy builds another frame than the simulation: not the same work")
        builders.append(lambda stack=stack: build(stack))  # type: ignore[misc]
    return builders, kinds


def build(stack: list[tuple[Any, dict[str, Any]]]) -> bytes:
    """Build a frame from layers and their fields."""
    packet = None
    for kind, fields in stack:
        layer = kind(**fields)
        packet = layer if packet is None else packet / layer
    return bytes(packet)  # type: ignore[arg-type]


def scapy_rate(builders: list[Callable[[], bytes]]) -> float:
    """Return the frames that scapy builds in a second."""
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < PEER_S:
        builders[count % len(builders)]()
        count += 1
    return count / passed


if __name__ == "__main__":
    main()
