"""How fast the emulation is, what many devices cost, and how far the two worlds agree.

Needs root and the emulation's packages; without them it says so and measures nothing. Prints, for
scenarios of the paper's lab: virtual time, wall time and their ratio (the warm-up is played, but not
counted as virtual time). `--week` plays `steady-week` too, which takes minutes.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from testbed.api import run
from testbed.emulation.requirements import missing
from testbed.validation import compare
from testbed.validation.truth import load_truth
from tests.crowd import write_crowd

if TYPE_CHECKING:
    from testbed.scenario.manifest import RunSummary

CROWDS = (100, 300)


def told(name: str, summary: RunSummary, whole_s: float) -> None:
    ratio = summary.virtual_s / whole_s
    print(
        f"{name:28} {summary.virtual_s / 3600:8.2f} h  {whole_s:7.1f} s  {ratio:7,.0f} x real time  "
        f"{summary.frames:9,} frames"
    )


def timed(scenario: str, out: Path, **options: object) -> tuple[RunSummary, float]:
    began = time.monotonic()
    summary = run(scenario, out=out, seed=7, **options)  # type: ignore[arg-type]
    return summary, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--week", action="store_true", help="play steady-week too")
    wanted = parser.parse_args()
    if lacks := missing():
        print("not measured; this machine lacks", *lacks, sep="\n  ")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{'whole command':28} {'virtual':>10}  {'wall':>9}")
        scenarios = ["internet-outage", "all-states", *(["steady-week"] if wanted.week else [])]
        for scenario in scenarios:
            told(scenario, *timed(scenario, folder / scenario, world="emulation"))
        for count in CROWDS:
            models = folder / f"crowd-{count}"
            write_crowd(models, count)
            out = folder / f"run-{count}"
            told(f"{count} devices, 15 minutes", *timed("crowd", out, world="emulation", models=[models]))
            largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            print(f"{'':28} at most {largest / 1024:,.0f} MiB")
        timed("all-states", folder / "simulated")
        result = compare.compare(load_truth(folder / "simulated"), load_truth(folder / "all-states"))
    exchanges = sum(cell.exchanges_agree for cell in result.cells)
    sizes = sum(cell.bytes_agree for cell in result.cells)
    print(
        f"\nall-states, simulation against emulation, {len(result.cells)} cells of device, protocol, state:"
        f"\n  exchanges within {compare.EXCHANGES_TOLERANCE:.0%}: {exchanges / len(result.cells):.1%}"
        f"\n  bytes within {compare.BYTES_TOLERANCE:.0%}: {sizes / len(result.cells):.1%}"
        f"\n  hours of a protocol within {compare.HOURS_TOLERANCE:.0%}: {result.hours_share:.1%}"
    )


if __name__ == "__main__":
    main()
