"""The same ten minutes in simulation, in emulation, and under the kernel's own clock, side by side.

Needs root and the emulation's packages, and ten minutes: `benchmarks/reference` holds the scenario
(start, work, an outage that the router does not notice, one that it does, a download). Prints per
device and protocol the frames, bytes and pure ACKs of each world; the kernel under the real clock is
right. `--play` plays it, which takes the ten minutes; with `--runs DIR` the runs are kept there, and
those already there are not played again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.parquet as pq

from testbed.api import run
from testbed.cli.words import table
from testbed.emulation.requirements import missing
from testbed.validation import compare
from testbed.validation.truth import load_truth
from tests.pcap import read_pcap

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).resolve().parent / "reference"
SCENARIO = "ten-minutes"
WORLDS: dict[str, dict[str, str]] = {
    "simulation": {"world": "simulation"},
    "virtual": {"world": "emulation"},
    "real": {"world": "emulation", "clock": "real"},
}
Cell = tuple[str, str, str]
"""Device, protocol, state."""


def is_pure_ack(frame: bytes) -> bool:
    """Tell whether a frame is a TCP segment that acknowledges and says nothing else."""
    if frame[12:14] != b"\x08\0" or frame[23] != 6:
        return False
    at = 14 + (frame[14] & 15) * 4
    length = int.from_bytes(frame[16:18], "big") - (at - 14) - (frame[at + 12] >> 4) * 4
    return length == 0 and frame[at + 13] == 16


def measured(folder: Path) -> Iterator[tuple[Cell, tuple[int, int, int, int]]]:
    """Yield each cell with its frames, bytes, and pure ACKs that the device sent and received."""
    columns = pq.read_table(folder / "labels.parquet", columns=["device", "protocol", "state", "direction"])
    found: dict[Cell, Counter[str]] = {}
    labels = zip(*(column.to_pylist() for column in columns.columns), strict=True)
    for packet, (device, protocol, state, direction) in zip(
        read_pcap(folder / "capture.pcap"), labels, strict=True
    ):
        cell = found.setdefault((device, protocol, state), Counter())
        cell["frames"] += 1
        cell["bytes"] += len(packet.frame)
        cell[direction] += is_pure_ack(packet.frame)
    for key, cell in found.items():
        yield key, (cell["frames"], cell["bytes"], cell["sent"], cell["received"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder, and use what is there")
    parser.add_argument("--play", action="store_true", help="take the ten minutes")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="show cells that agree, too")
    wanted = parser.parse_args()
    if lacks := missing():
        print("not measured; this machine lacks", *lacks, sep="\n  ")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = wanted.runs or Path(temporary)
        if not wanted.play and not (folder / "real").exists():
            print("not measured: it takes ten minutes of real time; --play takes them")
            return
        for world, options in WORLDS.items():
            if not (folder / world).exists():
                run(SCENARIO, models=[MODELS], seed=wanted.seed, out=folder / world, **options)  # type: ignore[arg-type]
        shown({world: folder / world for world in WORLDS}, everything=wanted.all)


def shown(folders: dict[str, Path], *, everything: bool) -> None:
    """Print the worlds side by side."""
    cells = {world: dict(measured(folder)) for world, folder in folders.items()}
    nothing = (0, 0, 0, 0)
    rows = []
    for key in sorted(set().union(*cells.values())):
        values = [cells[world].get(key, nothing) for world in WORLDS]
        sizes = [value[1] for value in values]
        if everything or max(sizes) - min(sizes) > compare.BYTES_TOLERANCE * max(sizes):
            rows.append((*key, *(f"{value[i]:,}" for i in range(4) for value in values)))
    heads = ("device", "protocol", "state")
    for name in ("frames", "bytes", "ACKs sent", "received"):
        heads += (name, "", "")
    print(f"each in {', '.join(WORLDS)}; cells that differ by more than {compare.BYTES_TOLERANCE:.0%}")
    print(table(heads, rows))
    truths = {world: load_truth(folder) for world, folder in folders.items()}
    for world in ("simulation", "virtual"):
        result = compare.compare(truths[world], truths["real"])
        exchanges = sum(cell.exchanges_agree for cell in result.cells)
        sizes = sum(cell.bytes_agree for cell in result.cells)
        print(
            f"{world} against real: exchanges agree in {exchanges} of {len(result.cells)} cells, "
            f"bytes in {sizes}, hours {result.hours_share:.0%}"
        )


if __name__ == "__main__":
    main()
