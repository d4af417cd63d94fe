"""The claims as data, the vote of the seeds, the files that come out, and what can be varied."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from testbed.errors import UserError
from testbed.reproduction import Claim, judge, load_claims
from testbed.reproduction.evidence import Evidence
from testbed.reproduction.output import COLUMNS, csv_text, summary
from testbed.reproduction.pages import html, markdown
from testbed.reproduction.runs import Job, plan
from testbed.reproduction.vary import scaled, variations
from tests.unit.doctored import findings


def claim(**changes: object) -> Claim:
    return Claim.model_validate(
        {
            "id": "P-9-01",
            "where": "§9",
            "kind": "N",
            "claim": "The hub <sends> a lot.",
            "expected": "1 kB | more",
            "check": {"amount": {"devices": ["hive_hub"], "when": "week", "least": "1kB"}},
            **changes,
        }
    )


def seed(number: int, size: int) -> Evidence:
    return Evidence(number, week=findings(("", "hive_hub", "TCP", "sent", 1, size)))


def seeds(*sizes: int) -> list[Evidence]:
    return [seed(number, size) for number, size in enumerate(sizes, 1)]


def test_all_claims_of_the_paper_are_there_with_a_check_or_a_reason() -> None:
    claims = load_claims()
    assert len(claims) == 273 and len({one.id for one in claims}) == 273
    for one in claims:
        assert one.check is not None or one.reason, one.id
        assert one.claim.endswith("."), one.id
        if one.kind in "NOS" and one.check is None:
            assert one.id in {"P-2-07", "P-2-13", "P-T1-40"}, f"{one.id} speaks of traffic"


def test_four_of_five_seeds_decide() -> None:
    (result,) = judge([claim()], seeds(2000, 2000, 2000, 2000, 1))
    assert (result.verdict, result.held, result.measured_in) == ("holds", 4, 5)
    (result,) = judge([claim()], seeds(2000, 2000, 2000, 1, 1))
    assert (result.verdict, result.measured) == ("fails", "1 B")
    assert "at least 1 kB" in result.reason


def test_the_written_reason_is_given_for_a_failure_only() -> None:
    reasoned = claim(reason="because")
    assert judge([reasoned], seeds(1))[0].reason == "because"
    assert judge([reasoned], seeds(2000))[0].reason == ""


def test_without_evidence_a_claim_is_not_checkable() -> None:
    (result,) = judge([claim()], [Evidence(1, states=findings())])
    assert (result.verdict, result.reason) == ("not-checkable", "no week was played")
    (result,) = judge([claim(check=None, reason="no way")], seeds(1))
    assert (result.verdict, result.reason) == ("not-checkable", "no way")


def test_conjectures_are_reported_only() -> None:
    (result,) = judge([claim(kind="C")], seeds(1))
    assert (result.verdict, result.measured) == ("reported", "1 B")


def test_the_csv_has_the_columns_that_are_relied_on() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(judge([claim()], seeds(2000))))))
    assert COLUMNS[:6] == ("id", "claim", "expected", "measured", "verdict", "reason")
    assert rows[0]["measured"] == "2 kB" and rows[0]["verdict"] == "holds"


def test_the_tally_counts_what_can_be_checked() -> None:
    results = judge([claim(), claim(check=None, reason="no way"), claim(kind="C")], seeds(2000))
    assert summary(results).startswith("1 of 1 checkable claims hold (100.0 %); 1 cannot be checked")


def test_pages_show_text_as_it_is() -> None:
    results = judge([claim(), claim(id="P-9-02", reason="because")], seeds(1))
    assert "The hub &lt;sends&gt; a lot." in html(results, "Played.")
    page = markdown(results, "Played.")
    assert "The hub \\<sends\\> a lot." in page and "1 kB \\| more" in page
    assert page.index("Claims that fail") < page.index("because")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{id: P-9-01, where: x, kind: N, claim: x., expected: x}", "needs a check, or the reason"),
        ("{id: P-9-01, where: x, kind: N, claim: x., expected: x, check: {amout: {}}}", "amount"),
        ("{id: P-9-01, where: x, kind: X, claim: x., expected: x, reason: y}", "kind"),
    ],
)
def test_a_wrong_claim_is_told_with_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(f"section: x\nclaims:\n  - {text}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_claims(tmp_path)
    assert "1.yaml:3" in str(caught.value)


def test_the_month_is_played_once_and_first() -> None:
    assert plan([1, 2], ["states", "week", "month"]) == [
        Job(1, ("month",)),
        Job(1, ("week", "states")),
        Job(2, ("week", "states")),
    ]
    assert plan([1], ["states"]) == [Job(1, ("states",))]


@pytest.mark.parametrize(
    ("value", "doubled"), [("1h30m", "2h60m"), ("1.5kB", "3kB"), (3, 6), (0.5, 1.0), ("20%", "40%")]
)
def test_numbers_are_scaled_with_their_units(value: object, doubled: object) -> None:
    assert scaled(value, 2.0) == doubled


def test_only_assumed_numbers_are_varied() -> None:
    found = variations("hs110_plug")
    where = {one.where for one in found}
    assert "cloud: retries.validated.first" in where and "telemetry: every" in where
    assert not any("servers" in one or "renew_at" in one for one in where)
    assert {(one.value, one.varied) for one in found if one.where == "telemetry: every"} == {
        ("4min", "2min"),
        ("4min", "8min"),
    }
