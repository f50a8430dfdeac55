"""A cohort's result as a table, as JSON and as plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from services.emulator.cohort.run import Result
from services.emulator.cohort.score import Outcome, Score, outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN: Final = 20
"""Misses and false pages that the table names; the JSON has all."""
DOTS_PER_INCH: Final = 110
BLUE, RED, GREY = "#2f6db3", "#c0392b", "#9aa5b1"


def document(result: Result) -> dict[str, Any]:
    """The result for programs: everything but the alerts of each pump."""
    found: dict[str, Any] = msgspec.to_builtins(result)
    del found["judgements"]
    found["accepted"] = result.accepted
    return found


def show(result: Result, console: Console) -> None:
    """Print what was found per kind of hazard, per rule, and as a whole."""
    score = result.score
    console.print(_kinds_table(score))
    console.print(_rules_table(score))
    for miss in score.missed[:SHOWN]:
        after = "never" if miss.known_after_minutes is None else f"after {miss.known_after_minutes:g} min"
        console.print(f"not in time: {miss.hazard_id} ({miss.severity}) from {miss.onset}, by {miss.know_by}: {after}")
    for page in score.false[:SHOWN]:
        near = f"; near {', '.join(page.near)}" if page.near else ""
        console.print(f"false page: {page.rule_id} {page.priority} on {page.pump_id} at {page.recorded_at}{near}")
    console.print(_summary(result), highlight=False)


def _kinds_table(score: Score) -> Table:
    table = Table(title="Hazards", title_justify="left")
    for name in ("kind", "severity", "rules", "n", "in time", "late", "missed", "median min", "slowest of allowed"):
        table.add_column(name, justify="left" if name in ("kind", "severity", "rules") else "right")
    for kind in score.kinds:
        known = (str(kind.in_time), str(kind.late), str(kind.missed)) if kind.judged else ("no rule", "-", "-")
        slowest = "-" if kind.slowest_share is None else f"{kind.slowest_share:.0%}"
        rules = " ".join(kind.rules)
        table.add_row(kind.kind, kind.severity, rules, str(kind.hazards), *known, _number(kind.median_minutes), slowest)
    return table


def _rules_table(score: Score) -> Table:
    table = Table(title="Rules", title_justify="left")
    columns = ("rule", "expected", "seen", "median min", "pages", "false", "false high", "false/py", "alerts", "high")
    for name in (*columns, "flaps"):
        table.add_column(name, justify="left" if name == "rule" else "right")
    for rule in score.rules:
        if not rule.in_force:
            table.add_row(rule.rule_id, str(rule.expected), "not in force", *("-" for _ in range(8)))
            continue
        high = "-" if rule.high_share is None else f"{rule.high_share:.0%}"
        counts = (rule.pages, rule.false_pages, rule.false_high_pages)
        table.add_row(
            rule.rule_id,
            str(rule.expected),
            str(rule.seen),
            _number(rule.median_minutes),
            *map(str, counts),
            f"{rule.false_per_patient_year:.2f}",
            str(rule.alerts),
            high,
            str(rule.flaps),
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _summary(result: Result) -> str:
    score = result.score
    lines = [
        (
            f"{result.pumps} pumps x {result.days} days, seed {result.seed}, {result.rules} rules: "
            f"{score.reports} reports, {score.patient_years:.1f} patient-years"
        ),
        (
            f"hazards {score.hazards}, of which {score.not_judged} have no rule in force; known in time: "
            f"high {_share(score.sensitivity_high)}, medium {_share(score.sensitivity_medium)}, "
            f"low {_share(score.sensitivity_low)}"
        ),
        (
            f"pages {score.pages}; false {score.false_per_patient_year:.3f} per patient-year, "
            f"false high {score.false_high_per_patient_year:.3f}"
        ),
        (
            f"alerts {score.alerts}; high among the {score.background_alerts} beside hazards "
            f"{score.background_high_share:.2%}; flapping {score.flaps_per_patient_year:.2f} per patient-year"
        ),
    ]
    if result.differences is not None:
        differing = ", ".join(difference.pump_id for difference in result.differences[:SHOWN])
        lines.append(
            f"duplicated and reordered delivery: {f'differs for {differing}' if differing else 'no difference'}"
        )
    lines.extend(f"not met: {failure}" for failure in score.failures)
    if score.not_judged:
        lines.append(f"{score.not_judged} hazards prove nothing yet: none of their rules is in force")
    lines.append("accepted" if result.accepted else "not accepted")
    return "\n".join(lines)


def plot(result: Result, folder: Path) -> list[Path]:
    """Write the plots as PNG into ``folder``, which is made; returns their paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to load, and only for plots.
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above.

    folder.mkdir(parents=True, exist_ok=True)
    kinds = sum(kind.judged > 0 for kind in result.score.kinds)
    rules = sum(rule.in_force for rule in result.score.rules)
    written = []
    for name, draw, height in (
        ("time-to-page", _draw_times, 0.25 * kinds + 1.5),
        ("sensitivity", _draw_sensitivity, 0.25 * kinds + 1.5),
        ("false-pages", _draw_false, 0.22 * rules + 1.5),
        ("priorities", _draw_priorities, 0.22 * rules + 1.5),
    ):
        figure = Figure(figsize=(9, max(3.0, height)), layout="constrained")
        FigureCanvasAgg(figure)
        draw(result, figure.subplots())
        path = folder / f"{result.cohort}-{name}.png"
        figure.savefig(path, dpi=DOTS_PER_INCH)
        written.append(path)
    return written


def outcomes(result: Result) -> list[Outcome]:
    """What became of every hazard that a rule in force is to see."""
    in_force = frozenset(rule.rule_id for rule in result.score.rules if rule.in_force)
    found = (
        outcome(hazard, judgement.notices, in_force)
        for judgement in result.judgements
        for hazard in judgement.hazards
        if hazard.rules
    )
    return [one for one in found if one.judged]


def _draw_times(result: Result, axes: Axes) -> None:
    kinds = [kind.kind for kind in reversed(result.score.kinds) if kind.judged]
    places = {kind: place for place, kind in enumerate(kinds)}
    for one in outcomes(result):
        if one.spent is not None:
            colour = BLUE if one.in_time else RED
            axes.plot(one.spent, places[one.hazard.kind], "o", color=colour, alpha=0.6, markersize=5)
    axes.axvline(1.0, color=RED, linewidth=1)
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("time to page, as a share of the time allowed")
    axes.set_title(f"{result.cohort}: time to page against the deadline", loc="left")


def _draw_sensitivity(result: Result, axes: Axes) -> None:
    kinds = [kind for kind in reversed(result.score.kinds) if kind.judged]
    shares = [kind.in_time / kind.judged for kind in kinds]
    axes.barh(range(len(kinds)), shares, color=[BLUE if share >= 1 else RED for share in shares])
    names = [f"{kind.kind} ({kind.judged})" for kind in kinds]
    axes.set_yticks(range(len(kinds)), names, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share known in time")
    axes.set_title(f"{result.cohort}: sensitivity", loc="left")


def _draw_false(result: Result, axes: Axes) -> None:
    rules = [rule for rule in reversed(result.score.rules) if rule.in_force]
    years = result.score.patient_years or 1.0
    high = [rule.false_high_pages / years for rule in rules]
    other = [(rule.false_pages - rule.false_high_pages) / years for rule in rules]
    axes.barh(range(len(rules)), high, color=RED, label="high")
    axes.barh(range(len(rules)), other, left=high, color=GREY, label="medium")
    axes.set_yticks(range(len(rules)), [rule.rule_id for rule in rules], fontsize=8)
    axes.set_xlabel("false pages per patient-year")
    axes.set_xlim(left=0)
    axes.legend(loc="lower right")
    axes.set_title(f"{result.cohort}: false pages", loc="left")


def _draw_priorities(result: Result, axes: Axes) -> None:
    rules = [rule.rule_id for rule in reversed(result.score.rules) if rule.in_force]
    left = [0] * len(rules)
    for priority, colour in (("high", RED), ("medium", "#e0a030"), ("low", BLUE), ("info", GREY)):
        counts = [
            sum(name == rule and found.value == priority for one in result.judgements for name, found, _ in one.alerts)
            for rule in rules
        ]
        axes.barh(range(len(rules)), counts, left=left, color=colour, label=priority)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    axes.set_yticks(range(len(rules)), rules, fontsize=8)
    axes.set_xlabel("alerts, those of injected hazards included")
    axes.legend(loc="lower right")
    axes.set_title(f"{result.cohort}: alerts by highest priority", loc="left")
