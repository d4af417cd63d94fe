"""Mutate captures and analyse what comes out: no crash, no hang, no unbounded memory.

    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=/tmp/checked python benchmarks/fuzz_captures.py [SEED...]

The compiled kernels check no bounds by themselves; the two variables compile them with checks, into
a cache of its own, so that a read beyond a frame is an error here and not luck. Without files the
script makes its own seeds. The exit code is 1 if any mutation broke a rule; such files are kept.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from synthetic_capture import write as write_synthetic

from testbed.analysis import analyse
from testbed.errors import TestbedError

MOST_S = 2.0
MOST_BYTES = 1 << 30
INTERESTING = (0, 1, 2, 7, 8, 15, 16, 20, 27, 28, 31, 32, 64, 127, 128, 255, 256, 1500, 1501, 4096,
               65_535, 65_536, 262_144, 262_145, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # fmt: skip
TOKENS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x0a\x0d\x0d\x0a", b"\x4d\x3c\x2b\x1a", b"\x06\0\0\0",
          b"\x01\0\0\0", b"\xc0\x0c", b"\x81\x00", b"\x88\x64", b"\x08\x06", b"\x86\xdd", b"\x16\x03\x01",
          b"\x63\x82\x53\x63", b"\x88\x47", b"\xaa\xaa\x03\0\0\0")  # fmt: skip
LINK_TYPES = (0, 1, 9, 10, 12, 14, 101, 105, 108, 113, 127, 220, 228, 229, 276)


def mutate(data: bytearray, chance: random.Random) -> bytearray:
    """Change a capture in one to eight places, as files are damaged or forged."""
    for _ in range(1 << chance.randrange(4)):
        if not data:
            return data
        at = chance.randrange(len(data)) if chance.random() < 0.7 else chance.randrange(min(len(data), 200))
        how = chance.randrange(9)
        if how == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at] = chance.randrange(256)
        elif how == 2:
            form = chance.choice(("<I", ">I", "<H", ">H"))
            value = chance.choice(INTERESTING) & (0xFFFFFFFF if form[1] == "I" else 0xFFFF)
            data[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif how == 3:
            del data[at : at + chance.choice((1, 2, 4, 16, 100))]
        elif how == 4:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 4, 16))))
        elif how == 5:
            data[at : at + 4] = chance.choice(TOKENS)
        elif how == 6:
            del data[at:]
        elif how == 7:
            data[at:at] = data[at : at + chance.randrange(1, 2000)]
        elif len(data) > 24:
            data[20:24] = struct.pack("<I", chance.choice(LINK_TYPES))
    return data


def own_seeds(folder: Path) -> list[Path]:
    """Make seeds: a synthetic home, and the same frames as pcapng."""
    plain = folder / "home.pcap"
    write_synthetic(plain, 400)
    data = plain.read_bytes()
    blocks = bytearray(struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
    blocks += (
        struct.pack("<IIHHI", 1, 32, 1, 0, 262_144)
        + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
        + struct.pack("<I", 32)
    )
    at = 24
    while at < len(data):
        seconds, micros, size, wire = struct.unpack_from("<IIII", data, at)
        ns = seconds * 10**9 + micros * 1000
        padded = data[at + 16 : at + 16 + size].ljust((size + 3) // 4 * 4, b"\0")
        total = 32 + len(padded)
        blocks += struct.pack("<IIIIIII", 6, total, 0, ns >> 32, ns & 0xFFFFFFFF, size, wire) + padded
        blocks += struct.pack("<I", total)
        at += 16 + size
    other = folder / "home.pcapng"
    other.write_bytes(blocks)
    return [plain, other]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("seeds", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--largest", type=int, default=400_000, help="leave out seeds beyond this many bytes")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    outcomes = {"analysed": 0, "damaged": 0, "refused": 0, "broken": 0}
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = [
            path for path in options.seeds or own_seeds(folder) if path.stat().st_size <= options.largest
        ]
        contents = [path.read_bytes() for path in seeds]
        for path in seeds:  # compile everything before the clock runs
            with suppress(TestbedError):
                analyse(path)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        for number in range(options.count):
            data = mutate(bytearray(chance.choice(contents)), chance)
            path = folder / "mutation"
            path.write_bytes(data)
            start = time.perf_counter()
            try:
                result = analyse(path)
                outcome = "damaged" if result.damaged else "analysed"
                assert sum(result.protocol_packets.values()) == result.frames
            except TestbedError:
                outcome = "refused"
            except Exception as error:  # what this script is there to find
                outcome = "broken"
                print(f"mutation {number}: {type(error).__name__}: {error}", file=sys.stderr)
            took = time.perf_counter() - start
            slowest = max(slowest, took)
            if outcome == "broken" or took > MOST_S:
                kept = Path(f"mutation-{options.seed}-{number}.bin")
                kept.write_bytes(data)
                print(f"kept {kept} ({outcome}, {took:.2f} s)", file=sys.stderr)
            outcomes[outcome] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(f"{options.count:,} mutations of {len(contents)} captures: {outcomes}; slowest {slowest:.2f} s; "
          f"memory grew by {grown / 2**20:.0f} MiB")  # fmt: skip
    return int(outcomes["broken"] > 0 or slowest > MOST_S or grown > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
