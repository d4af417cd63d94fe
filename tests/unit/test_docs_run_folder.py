"""The page on the run folder names every column, key and word that a run writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import maxminddb
import pytest

import testbed
from testbed.capture.write import LABEL_SCHEMA
from testbed.host import NetError, Outcome

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "run-folder.md").read_text()
WORDS = set(re.findall(r"`([^`\n]+)`", PAGE))


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "run"
    testbed.run("internet-outage", out=out, until_s=4200)
    return out


def keys(value: Any) -> set[str]:
    """Return every key in a document."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values())) if value else set()
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def test_the_table_of_labels_is_the_schema() -> None:
    table = re.findall(r"^\| `(\w+)` \|", section("labels.parquet"), re.MULTILINE)
    assert table == LABEL_SCHEMA.names


@pytest.mark.slow
def test_every_file_is_described(run: Path) -> None:
    assert {path.name for path in run.iterdir()} <= WORDS


@pytest.mark.slow
def test_every_key_of_the_manifest_is_described(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text())
    packages = set(manifest.pop("versions"))
    assert {"python", "numpy"} <= packages
    told = set(re.findall(r"`(\w+)`", section("run.json")))
    assert keys(manifest) - told == set()


@pytest.mark.slow
def test_every_key_and_event_of_the_log_is_described(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = set(re.findall(r"`([\w-]+)`", section("events.jsonl")))
    for words in (set().union(*lines), {line["event"] for line in lines}):
        assert words - told == set()
    assert {line["outcome"] for line in lines if "outcome" in line} - told == set()


def test_every_event_that_behaviours_note_is_described() -> None:
    told = set(re.findall(r"`([\w-]+)`", section("events.jsonl")))
    code = "".join(path.read_text() for path in sorted((ROOT / "testbed" / "behaviours").glob("*.py")))
    noted = re.findall(r'host\.note\("([\w-]+)"', code)
    assert noted
    assert set(noted) | set(re.findall(r'host\.note\(.*?outcome="([\w-]+)"', code)) <= told


def test_every_outcome_is_described() -> None:
    told = set(re.findall(r"`([\w-]+)`", section("events.jsonl")))
    assert {Outcome.OK, Outcome.SENT, Outcome.CANCELLED} <= told
    assert {kind.outcome for kind in NetError.__subclasses__() if kind.__module__ == "testbed.host"} <= told


@pytest.mark.slow
def test_the_database_of_places_has_what_is_described(run: Path) -> None:
    with maxminddb.open_database(run / "places.mmdb") as places:
        found: set[str] = set()
        for _, record in places:
            assert isinstance(record, dict)
            found |= set(record)
    assert found == set(re.findall(r"`([a-z_]+)`", section("places.mmdb")))
