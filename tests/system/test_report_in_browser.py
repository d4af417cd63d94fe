"""Chromium shows the report: no error on its console, every chart there, the device filter at work."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed import analyse, run
from testbed.report.page import render

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.system]
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1366,900",
]
PROBE = """<script>
const select = document.getElementById("device");
select.value = "foobot"; select.dispatchEvent(new Event("change"));
document.body.dataset.lines = document.querySelectorAll("#lines svg").length;
document.body.dataset.rows = document.querySelectorAll("tr[data-device]:not([hidden]) th").length;
const search = document.getElementById("search");
search.value = "broker-gw"; search.dispatchEvent(new Event("input"));
document.body.dataset.found = document.querySelectorAll("#service-table tbody tr").length;
select.value = ""; select.dispatchEvent(new Event("change"));
document.querySelector("button[data-scale=share]").click();
document.querySelector("button[data-layer=transport]").click();
const bar = document.querySelector("#by-application rect");
bar.dispatchEvent(new PointerEvent("pointermove", { clientX: 300, clientY: 300 }));
const tip = document.getElementById("tip");
document.body.dataset.tip = tip.hidden ? "" : tip.textContent;
document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;
</script>"""


def browse(page: Path, folder: Path, *more: str) -> tuple[str, str]:
    """Open a page; return its document once the scripts ran, and what they wrote on the console."""
    command = ["chromium", *QUIET, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *more]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, env=environment
    )
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return done.stdout, console


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = run("internet-outage", out=tmp_path_factory.mktemp("runs") / "outage", until_s=75 * 60).out
    return render(analyse(folder / "capture.pcap", run=folder), title="An outage")


def test_the_report_draws_itself_without_a_word_on_the_console(
    report: str, tmp_path: Path, needs: Callable[..., None]
) -> None:
    needs("chromium")
    page = tmp_path / "report.html"
    page.write_text(report.replace("</body>", PROBE + "</body>"))
    document, console = browse(page, tmp_path)
    assert console == ""
    seen = dict(re.findall(r'data-(lines|rows|found|tip|wide)="([^"]*)"', document))
    assert int(seen["lines"]) == 1 and int(seen["rows"]) >= 1
    assert int(seen["found"]) >= 1
    assert "HTTPS" in seen["tip"] and "% of its bytes" in seen["tip"]
    assert int(seen["wide"]) <= 0  # nothing sticks out sideways at a laptop's width
    for chart in ("whole", "by-transport", "by-application", "periods"):
        assert re.search(rf'id="{chart}"[^>]*><svg', document), chart
    assert document.count('class="point"') > 5  # places on the map
    assert len(re.findall(r"<figure>", document)) >= 3


def test_a_broken_script_would_be_noticed(report: str, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("chromium")
    page = tmp_path / "report.html"
    page.write_text(report.replace("</body>", "<script>nobody()</script></body>"))
    assert "nobody is not defined" in browse(page, tmp_path)[1]
    page.write_text(report.replace("</body>", '<img src="https://198.18.0.1/x.png"></body>'))
    assert "Content Security Policy" in browse(page, tmp_path)[1]
