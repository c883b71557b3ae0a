"""The page of all measurements: tables and plots from the reports in docs/benchmarks.

    python benchmarks/page.py        writes docs/benchmarks.md, docs/benchmarks/*.svg, history.json

A report is what a benchmark printed with --json, and is known by its file's name: one benchmark
may have several, of parts that were run one by one. `history.json` keeps the figures of every
report that was ever shown, so that a change is seen. Of the notes a page has what tells by how much
a goal was missed ("missed: ...") and why a row was not measured; the rest stays in the reports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
REPORTS = DOCS / "benchmarks"
HISTORY = REPORTS / "history.json"
MOST = 150  # rows of a table; of a longer report only what missed its goal or was not measured
WIDTH, LABEL, BAR, GAP = 900, 330, 16, 10
OURS, THEIRS = "#2563a8", "#9aa5b1"

Report = Mapping[str, Any]


def reports() -> list[Report]:
    """In the order of their files' names, which are theirs."""
    found = []
    for path in sorted(REPORTS.glob("*.json")):
        if path == HISTORY:
            continue
        try:
            found.append(json.loads(path.read_text("utf-8")) | {"name": path.stem})
        except ValueError as error:
            sys.exit(f"{path} is no report ({error}): wait for its benchmark, or remove it")
    return found


# ---------------------------------------------------------------- history


def remember(every: Sequence[Report]) -> dict[str, list[dict[str, Any]]]:
    """By benchmark, the figures of each of its reports, oldest first; the new ones included."""
    kept: dict[str, list[dict[str, Any]]] = {}
    if HISTORY.is_file():
        kept = json.loads(HISTORY.read_text("utf-8"))
    for report in every:
        runs = kept.setdefault(report["name"], [])
        if all(run["date"] != report["date"] for run in runs):
            figures = {
                row["metric"]: float(f"{row['value']:.5g}")
                for row in report["rows"]
                if row["value"] is not None
            }
            runs.append(
                {"date": report["date"], "cpu": report["machine"]["cpu"]} | {"rows": figures}
            )
            runs.sort(key=lambda run: str(run["date"]))
    HISTORY.write_text(json.dumps(kept, separators=(",", ":"), sort_keys=True) + "\n", "utf-8")
    return kept


def before(report: Report, kept: Mapping[str, list[dict[str, Any]]]) -> Mapping[str, float]:
    """The figures of the run before this one on the same processor."""
    cpu = report["machine"]["cpu"]
    earlier = [
        run
        for run in kept.get(report["name"], [])
        if run["date"] < report["date"] and run["cpu"] == cpu
    ]
    return earlier[-1]["rows"] if earlier else {}


# ---------------------------------------------------------------- tables


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def best(row: Mapping[str, Any]) -> str:
    """The peer that the ratio is against: the one whose figure fits it."""
    known = {name: value for name, value in row["peers"].items() if value is not None}
    if not known:
        return "not measured" if row["peers"] else ""
    if not row["ratio"] or not row["value"]:
        return ", ".join(f"{name} {number(value)}" for name, value in known.items())

    def misfit(name: str) -> float:
        either = (row["value"] / known[name], known[name] / row["value"]) if known[name] else (0, 0)
        return min(abs(each - row["ratio"]) for each in either)

    name = min(known, key=misfit)
    return f"{name} {number(known[name])}"


def line(row: Mapping[str, Any], earlier: Mapping[str, float]) -> str:
    short = [part for part in row["note"].split("; ") if part.startswith("missed: ")]
    missed = f"**{', '.join(short) or 'missed'}**"
    verdict = {True: "holds", False: missed, None: ""}[row["holds"]]
    spread = "" if row["spread"] is None else " to ".join(number(each) for each in row["spread"])
    shown = "not measured" if row["value"] is None else f"{number(row['value'])} {row['unit']}"
    was = earlier.get(row["metric"])
    change = f"{row['value'] / was:.2f} x" if was and row["value"] is not None else ""
    of_limit = "" if row["fraction_of_limit"] is None else f"{row['fraction_of_limit']:.0%}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    goal = f"{row['goal'] or ''} {verdict}".strip()
    cells = (f"`{row['metric']}`", shown, spread, goal, best(row), ratio, of_limit, change)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def section(report: Report, kept: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    name, rows, machine = report["name"], report["rows"], report["machine"]
    goals = [row["holds"] for row in rows if row["holds"] is not None]
    unknown = sum(row["value"] is None for row in rows)
    made = [
        f"## {name}",
        "",
        f"{report['date'][:16].replace('T', ' ')} UTC, {machine['cores']} cores of {machine['cpu']}"
        f", {machine['memory_gib']} GiB: `{report['command']}`",
        "",
        f"{len(rows)} rows; of {len(goals)} goals {sum(goals)} hold; {unknown} rows not measured. "
        f"All of it, with notes: [{name}.json](benchmarks/{name}.json).",
        "",
    ]
    plot = draw(report)
    if plot is not None:
        (REPORTS / f"{name}.svg").write_text(plot, "utf-8")
        made += [f"![{name}: ours beside peers](benchmarks/{name}.svg)", ""]
    unmeasured = [row for row in rows if row["value"] is None]
    if len(rows) > MOST:
        rows = [row for row in rows if row["holds"] is False or row["value"] is None]
        if not rows:
            return made
        made += ["Only what missed its goal or was not measured:", ""]
    earlier = before(report, kept)
    made += [
        "| metric | value | range | goal | best peer | ratio | of limit | since the last run |",
        "|---|---|---|---|---|---|---|---|",
        *(line(row, earlier) for row in rows),
        "",
    ]
    if unmeasured:
        made += ["Not measured:", ""]
        made += [f"- `{row['metric']}`: {row['note'] or 'no reason given'}" for row in unmeasured]
        made += [""]
    return made


# ---------------------------------------------------------------- plots


def draw(report: Report) -> str | None:
    """Bars of ours and of every peer, a group a row, of those with a goal where there are any; None
    where nothing has a peer."""
    groups, asked = [], []
    for row in report["rows"]:
        peers = {name: value for name, value in row["peers"].items() if value is not None}
        if peers and row["value"] is not None:
            groups.append((f"{row['metric']} ({row['unit']})", {"ours": row["value"], **peers}))
            asked += groups[-1:] if row["goal"] else []
    groups = asked or groups
    if not groups:
        return None
    made, y = [], GAP
    for title, bars in groups:
        made.append(_text(4, y + BAR - 4, title, "bold"))
        y += BAR + 2
        longest = max(bars.values()) or 1
        for name, value in bars.items():
            width = max(1.0, value / longest * (WIDTH - LABEL - 80))
            colour = OURS if name == "ours" else THEIRS
            made.append(_text(20, y + BAR - 4, name))
            size = f'width="{width:.1f}" height="{BAR - 3}"'
            made.append(f'<rect x="{LABEL}" y="{y}" {size} fill="{colour}"/>')
            made.append(_text(LABEL + width + 6, y + BAR - 4, number(value)))
            y += BAR
        y += GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
        f'height="{y}" font-family="sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{y}" fill="white"/>'
    )
    return head + "".join(made) + "</svg>\n"


def _text(x: float, y: float, said: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}">{escape(said)}</text>'


# ---------------------------------------------------------------- the page


def page(every: Sequence[Report], kept: Mapping[str, list[dict[str, Any]]]) -> str:
    made = [
        "# Benchmarks",
        "",
        "Written by `make bench` from the reports in `docs/benchmarks`. Ratios are ours over the "
        "best peer of the same run, above 1 is better; of limit is the part of what the machine "
        "was seen to do in that run. A value is the median of the repetitions.",
        "",
    ]
    for report in every:
        made += section(report, kept)
    return "\n".join(made).rstrip() + "\n"


def main() -> None:
    every = reports()
    (DOCS / "benchmarks.md").write_text(page(every, remember(every)), "utf-8")


if __name__ == "__main__":
    main()
