"""The report holds what was analysed, whatever the names in the capture, and asks nobody for anything."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed import run
from testbed.analysis import analyse
from testbed.cli import main
from testbed.report.atlas import HEIGHT, WIDTH, coasts, project
from testbed.report.figures import FIGURES, draw_figures
from testbed.report.page import render
from testbed.report.palette import APPLICATION_ORDER, COLOURS, TRANSPORT_ORDER
from testbed.report.summary import every, size
from tests.unit.captures import CLOUD, Home, save

if TYPE_CHECKING:
    from testbed.analysis import Analysis

SMALL = Path(__file__).resolve().parents[1] / "data" / "small"
HOSTILE = "</script><img-src=x-onerror=alert(1)>.example"


@pytest.fixture
def home(tmp_path: Path) -> Analysis:
    home = Home()
    home.dhcp(0, "request")
    home.lookup(1, "cloud.example", CLOUD)
    home.session(2, CLOUD, "cloud.example")
    return analyse(home.save(tmp_path / "home.pcap"))


@pytest.fixture(scope="module")
def blink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("blink", out=tmp_path_factory.mktemp("runs") / "blink", models=[SMALL]).out


def embedded(page: str) -> dict[str, Any]:
    """Return the data that the page's script draws."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data: dict[str, Any] = json.loads(match[1])
    return data


def test_the_page_holds_the_numbers_of_the_tables(home: Analysis) -> None:
    data = embedded(render(home))
    assert {row["protocol"]: row["bytes"] for row in data["whole"]} == {
        name: count for name, count in home.protocol_bytes.items() if count
    }
    for layer in ("application", "transport"):
        for device, cells in data["breakdown"][layer].items():
            rows = [row for row in home.protocols if (row.device, row.layer) == (device, layer)]
            assert sum(cells.values()) == sum(row.bytes for row in rows)
    for device, series in data["bandwidth"]["devices"].items():
        assert sum(series["sent"]) == sum(row.sent_bytes for row in home.bandwidth if row.device == device)
    assert {row["name"] for row in data["services"]} == {row.name or row.address for row in home.services}


def test_nothing_on_the_page_asks_the_network(home: Analysis) -> None:
    page = render(home)
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=(?!\s*["']?(#|data:,))""", page)
    for word in ("@import", "url(", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import("):
        assert word not in page, word
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name space, not a place


def test_names_from_a_capture_cannot_break_out(tmp_path: Path) -> None:
    home = Home()
    home.dhcp(0, "request", hostname="<b>plug</b>")
    home.lookup(1, HOSTILE, CLOUD)
    home.session(2, CLOUD, "cloud.example")
    page = render(analyse(home.save(tmp_path / "home.pcap")), title="<i>mine</i>")
    assert "<b>plug" not in page and "<img" not in page and "<i>mine" not in page
    assert page.count("</script>") == 2
    assert any("img-src" in row["name"] for row in embedded(page)["services"])


def test_a_capture_without_frames_has_a_report_too(tmp_path: Path) -> None:
    from tests.unit.captures import pcap

    empty = analyse(save(tmp_path / "empty.pcap", pcap([])))
    assert "The capture shows no device." in render(empty)
    assert draw_figures(empty, tmp_path) == {}


def test_damage_is_told_before_the_numbers(tmp_path: Path, home: Analysis) -> None:
    data = (tmp_path / "home.pcap").read_bytes()
    page = render(analyse(save(tmp_path / "cut.pcap", data[:-20])))
    assert page.index("Before you trust the numbers") < page.index("At a glance")
    assert "Before you trust the numbers" not in render(home)


def test_many_devices_are_cut_to_the_busiest_and_it_is_said(tmp_path: Path) -> None:
    home = Home()
    for i in range(45):
        mac, ip = f"02:00:00:00:00:{i:02x}", f"192.168.1.{i + 100}"
        for second in range(1 + (i >= 5)):
            home.udp(second, True, CLOUD, 123, bytes(48), mac=mac, ip=ip)
            home.udp(second + 0.1, False, CLOUD, 123, bytes(48), mac=mac, ip=ip)
    page = render(analyse(home.save(tmp_path / "home.pcap")))
    assert len(embedded(page)["devices"]) == 40
    assert "5 devices with less traffic" in page


@pytest.mark.slow
def test_analyse_puts_report_and_figures_beside_the_tables(blink: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["analyse", "--run", str(blink), "--out", str(out), "--quiet"]) == 0
    page = (out / "report.html").read_text()
    assert "The Internet blinks" in page and 'id="validation"' in page
    data = embedded(page)
    assert [state["name"] for state in data["states"]] == ["before", "gone", "back"]
    drawn = {path.stem for path in out.glob("*.svg")}
    assert {"figure-02-protocols", "figure-03-bandwidth", "figure-07-internet-off-and-back"} <= drawn
    assert drawn == {path.stem for path in out.glob("*.png")} <= {name for name, _, _ in FIGURES}
    for name in drawn:
        ElementTree.parse(out / f"{name}.svg")
        assert f'href="{name}.svg"' in page
    assert (
        main(["analyse", "--run", str(blink), "--out", str(out), "--quiet", "--no-figures", "--force"]) == 0
    )
    assert not [*out.glob("*.svg"), *out.glob("*.html")]


@pytest.mark.slow
def test_the_same_analysis_gives_the_same_bytes(blink: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result = analyse(blink / "capture.pcap", run=blink)
        draw_figures(result, tmp_path / name)
        texts.append((render(result), {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}))
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_the_validation_is_left_out_where_the_analysis_is_not_the_runs_own(
    blink: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["analyse", "--run", str(blink), "--rule", "payload", "--out", str(out), "--quiet"]) == 0
    assert 'id="validation"' not in (out / "report.html").read_text()


def test_the_map_has_its_places_where_they_are() -> None:
    assert project(0, 0)[0] == WIDTH / 2
    assert project(0, -180)[0] == pytest.approx(0) and project(0, 180)[0] == pytest.approx(WIDTH)
    cambridge, sydney = project(52.2, 0.12), project(-33.9, 151.2)
    assert 0 < cambridge[1] < sydney[1] < HEIGHT and cambridge[0] < sydney[0]
    for ring in coasts():
        for x, y in ring:
            assert -1 <= x <= WIDTH + 1 and -1 <= y <= HEIGHT + 1
        # A line across the map would be a land cut wrongly at 180 degrees.
        assert max(abs(a[0] - b[0]) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)) < WIDTH / 4


def test_every_protocol_has_a_colour_of_its_own() -> None:
    for order in (APPLICATION_ORDER, TRANSPORT_ORDER):
        assert len({COLOURS[name] for name in order}) == len(order)


def test_numbers_are_said_as_people_do() -> None:
    assert [every(s) for s in (0.434, 10, 61, 64.2, 151, 480, 3600, 21_600.55, 86_399, 35 * 86_400)] == [
        *("0.434 s", "10 s", "61 s", "64.2 s", "2.5 min", "8 min", "1 h", "6 h", "1 d", "35 d"),
    ]
    assert [size(n) for n in (0, 999, 1000, 12_345, 1_500_000, 2e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "12.3 kB",
        "1.5 MB",
        "2 GB",
    ]
