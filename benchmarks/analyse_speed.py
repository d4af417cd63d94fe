"""How fast a large capture is analysed, against other tools, as whole processes in one run.

    python benchmarks/analyse_speed.py [CAPTURE] [--frames 2000000] [--repeat 5] [--json FILE]

Without a capture it makes one of 2,000,000 frames (`synthetic_capture.py`). Each tool runs in turn,
`--repeat` times round; the figure is the median wall time of the process, start-up included, from a
warm page cache, with modules and kernels compiled before. What is compared: `testbed analyse` with all
analyses and CSV files but no figures; `tshark -z io,phs` (protocol hierarchy); `argus` and `nfpcapd`
(flow records). Tools that are not installed are left out and said so. The exit code is 1 if `testbed` is
below 12 times tshark, behind argus, or above 1 GiB of memory.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from synthetic_capture import write as write_synthetic

LEAST_RATIO_TO_TSHARK = 12.0
MOST_BYTES = 1 << 30


def run(command: list[str], folder: Path) -> tuple[float, int]:
    """Run a process to its end; return (wall seconds, peak resident bytes). Raises if it fails."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.chdir(folder)
        os.execvp(command[0], command)
    _, status, usage = os.wait4(child, 0)
    took = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {os.waitstatus_to_exitcode(status)}")
    return took, usage.ru_maxrss * 1024


def commands(capture: Path, folder: Path) -> dict[str, list[str]]:
    """Return the command of each tool that is installed."""
    here = [sys.executable, "-m", "testbed"]
    flows = folder / "flows"
    flows.mkdir()
    every = {
        "testbed": [*here, "analyse", str(capture), "--out", str(folder / "out"), "--force", "--no-figures"],
        "tshark": ["tshark", "-q", "-n", "-r", str(capture), "-z", "io,phs"],
        "argus": ["argus", "-r", str(capture), "-w", str(folder / "argus.out")],
        "nfpcapd": ["nfpcapd", "-r", str(capture), "-w", str(flows)],
        "tcpstat": ["tcpstat", "-r", str(capture), "900"],
    }
    found = {}
    for name, command in every.items():
        where = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin")
        if where is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
        else:
            found[name] = [where, *command[1:]]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("capture", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        capture = options.capture or folder / "capture.pcap"
        if options.capture is None:
            write_synthetic(capture, options.frames)
        tools = commands(capture.resolve(), folder)
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        times: dict[str, list[float]] = {tool: [] for tool in tools}
        peaks = dict.fromkeys(tools, 0)
        # Once before the clock runs: page cache, compiled modules and kernels.
        compileall.compile_dir(Path(__file__).resolve().parents[1] / "testbed", quiet=1)
        run(tools["testbed"], folder)
        for _ in range(options.repeat):
            for tool, command in tools.items():
                took, peak = run(command, folder)
                times[tool].append(took)
                peaks[tool] = max(peaks[tool], peak)
        summary = json.loads((folder / "out" / "analysis.json").read_text())
    return report(times, peaks, summary["frames"], summary["bytes"], options.json)


def report(
    times: dict[str, list[float]], peaks: dict[str, int], frames: int, size: int, path: Path | None
) -> int:
    """Print the table and return the exit code."""
    middle = {tool: statistics.median(taken) for tool, taken in times.items()}
    ours = middle["testbed"]
    print(f"{frames:,} frames, {size / 2**20:.0f} MiB on the wire, median of {len(times['testbed'])} runs")
    print(f"{'tool':<10}{'seconds':>9}{'min':>8}{'max':>8}{'frames/s':>13}{'memory':>10}{'testbed is':>14}")
    for tool, taken in times.items():
        ratio = "" if tool == "testbed" else f"{middle[tool] / ours:.2f} x as fast"
        print(
            f"{tool:<10}{middle[tool]:>9.2f}{min(taken):>8.2f}{max(taken):>8.2f}"
            f"{frames / middle[tool]:>13,.0f}"
            f"{peaks[tool] / 2**20:>6.0f} MiB  {ratio}"
        )
    if path is not None:
        figures = {tool: {"seconds": middle[tool], "peak_bytes": peaks[tool]} for tool in times}
        path.write_text(json.dumps({"frames": frames, "tools": figures}, indent=1) + "\n")
    slow = "tshark" in middle and middle["tshark"] / ours < LEAST_RATIO_TO_TSHARK
    behind = "argus" in middle and middle["argus"] < ours
    return int(slow or behind or peaks["testbed"] > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
