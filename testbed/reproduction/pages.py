"""The table of claims as a page: HTML that needs nothing else, and Markdown for the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.reproduction.output import by_verdict, counts, share, summary
from testbed.reproduction.sides import grids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.reproduction.sides import Side
    from testbed.reproduction.verdict import Result

TITLES = {
    "fails": "Claims that fail",
    "not-checkable": "Claims that cannot be checked",
    "reported": "Conjectures of the authors (reported, not judged)",
    "holds": "Claims that hold",
}
HOW = (
    "Each claim of the paper is measured on captures of the simulated lab, by the analyser alone: no label "
    "and no device model is looked at. What users see comes from the devices' own log of their function. A "
    "claim holds if it does so in at least four of five seeds; each seed plays a week and the seven states, "
    "and the month is played once. State #1 is the mean hour of the week. Assumed numbers of the models were "
    "adjusted while this table was watched, with these seeds: it says that rules with such numbers can carry "
    "the claims, not that the numbers are the devices' own."
)


def markdown(results: Sequence[Result], played: str) -> str:
    """Return `fidelity.md`; `played` says in a sentence what was played."""
    lines = [
        "# Fidelity: the paper, claim by claim",
        "",
        "This page is written by `testbed reproduce`; do not edit it by hand.",
        "",
        f"**{summary(results)}.**",
        "",
        HOW,
        "",
        played,
        "",
    ]
    for verdict, group in by_verdict(results):
        lines += [f"## {TITLES[verdict]} ({len(group)})", ""]
        if verdict in ("fails", "not-checkable"):
            for result in group:
                lines += _explained(result)
            continue
        lines += ["| id | claim | expected | accepted | measured | seeds |", "|---|---|---|---|---|---|"]
        for result in group:
            claim = result.claim
            cells = (claim.id, claim.claim, claim.expected, result.tolerance, result.measured, share(result))
            lines.append("| " + " | ".join(plain(text) for text in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _explained(result: Result) -> list[str]:
    claim = result.claim
    lines = [
        f"### {claim.id} ({claim.where})",
        "",
        f"{plain(claim.claim)} Expected: {plain(claim.expected)}.",
        "",
    ]
    if result.measured:
        lines.append(f"- accepted: {plain(result.tolerance)}")
        lines.append(f"- measured: {plain(result.measured)} (holds in {share(result)} seeds)")
    lines.append(f"- why: {plain(result.reason)}")
    if claim.note:
        lines.append(f"- reading: {plain(claim.note)}")
    return [*lines, ""]


def plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    for sign in "\\|*_<>[]`$":
        text = text.replace(sign, "\\" + sign)
    return text


def html(results: Sequence[Result], played: str, figures: Sequence[Side] = ()) -> str:
    """Return `claims.html`, which makes no network request."""
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    return page.render(
        groups=by_verdict(results), titles=TITLES, how=HOW, played=played, summary=summary(results),
        counts=counts(results), share=share, grids=grids(results), figures=figures,
    )  # fmt: skip


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>The paper, claim by claim</title>
<style>
:root { color-scheme: light dark; --line: #8884; --holds: #2a7f4f; --fails: #c0392b; --other: #8a6d1d; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem .35rem 0; }
th, td { text-align: left; vertical-align: top; }
.claims td:first-child { white-space: nowrap; font-variant-numeric: tabular-nums; }
td small, li small { display: block; opacity: .75; }
.bar { display: flex; height: 1rem; border-radius: .3rem; overflow: hidden; margin: 1rem 0; }
.holds { background: var(--holds); } .fails { background: var(--fails); }
.not-checkable, .reported { background: var(--other); } .reported { opacity: .5; }
i { font-style: normal; font-size: .8em; color: #fff; border-radius: .2rem; padding: 0 .3rem; }
.figure { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
.figure img { flex: 1 1 30rem; max-width: 48rem; min-width: 0; background: #fff; }
.figure ul { flex: 1 1 22rem; margin: 0; padding-left: 1rem; }
input { font: inherit; padding: .3rem .6rem; width: 20rem; max-width: 100%; }
</style>
</head>
<body>
<h1>The paper, claim by claim</h1>
<p><strong>{{ summary }}.</strong></p>
<div class="bar" role="img" aria-label="{{ summary }}">
{% for verdict, number in counts.items() %}
{% if number %}
<div class="{{ verdict }}" style="flex: {{ number }}" title="{{ titles[verdict] }}: {{ number }}"></div>
{% endif %}
{% endfor %}
</div>
<p>{{ how }}</p>
<p>{{ played }}</p>
<p><input id="find" type="search" placeholder="Filter: device, protocol, id …" aria-label="Filter"></p>
{% for verdict, group in groups %}
<h2>{{ titles[verdict] }} ({{ group|length }})</h2>
<table class="claims">
<thead><tr><th>id</th><th>claim</th><th>expected</th><th>accepted</th><th>measured</th><th>seeds</th></tr></thead>
<tbody>
{% for result in group %}
<tr>
<td>{{ result.claim.id }}<small>{{ result.claim.where }}</small></td>
<td>{{ result.claim.claim }}{% if result.claim.note %}<small>{{ result.claim.note }}</small>{% endif %}</td>
<td>{{ result.claim.expected }}</td>
<td>{{ result.tolerance }}</td>
<td>{{ result.measured }}{% if result.reason %}<small>{{ result.reason }}</small>{% endif %}</td>
<td>{{ share(result) }}</td>
</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
{% for grid in grids %}
<h2>{{ grid.title }}</h2>
<table>
<thead><tr><th></th>{% for column in grid.columns %}<th>{{ column }}</th>{% endfor %}</tr></thead>
<tbody>
{% for name, row in grid.rows %}
<tr><th>{{ name }}</th>
{% for result in row %}
<td><small>paper</small>{{ result.claim.expected }}
<small>here</small>{{ result.measured or "nothing" }}
<i class="{{ result.verdict }}">{{ result.verdict }}</i></td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
{% for side in figures %}
<h2>{{ side.title }}</h2>
<div class="figure">
<img src="{{ side.picture }}" alt="{{ side.title }}, drawn from our capture">
<ul>
{% for result in side.results %}
<li>{{ result.claim.claim }}
<small>{{ result.claim.id }}, paper: {{ result.claim.expected }}</small>
{% if result.measured %}<small>here: {{ result.measured }}</small>{% endif %}
<i class="{{ result.verdict }}">{{ result.verdict }}</i></li>
{% endfor %}
</ul>
</div>
{% endfor %}
<script>
document.getElementById("find").addEventListener("input", event => {
  const wanted = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll(".claims tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
</script>
</body>
</html>
"""
