"""Simulated patients that judge the rules.

Exit codes: 0 the cohort's acceptance is met; 1 it is not; 2 wrong arguments, or the file or the rules cannot be used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from services.command import NO, UNUSABLE, fail
from services.emulator.cohort.plan import MAX_DAYS, MAX_PUMPS, Cohort, CohortError, available, load
from services.emulator.cohort.report import document, plot, show
from services.emulator.cohort.run import Result, run
from streams.rule_errors import RuleError
from streams.settings import CoreSettings

WIDTH: Final = 150
"""Columns that the tables need; a narrower terminal wraps whole lines, and a file gets them as they are."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``pumpwatch cohort``."""
    app.command("run")(cohort_run)
    app.command("list")(cohort_list)


def cohort_run(
    file: Annotated[str, typer.Argument(help="A cohort's .yaml file, or the name of one that comes with Pumpwatch.")],
    pumps: Annotated[int | None, typer.Option(min=1, max=MAX_PUMPS, help="Instead of the file's.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=MAX_DAYS, help="Instead of the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the file's; the same gives the same cohort.")] = None,
    compare: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Deliver again with this share duplicated and reordered: same history?"),
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Side by side; as many as cores when left out.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Folder of rule files; PUMPWATCH_RULES when left out.")] = None,
    out: Annotated[Path, typer.Option(help="Where the JSON and the plots go.")] = Path("build/cohort"),
    as_json: AsJson = False,
) -> None:
    """Let simulated patients live through hazards, and score the rules' pages against the truth.

    Exit codes: 0 the cohort's acceptance is met; 1 it is not; 2 the file or the rules cannot be used.
    """
    try:
        cohort = load(file).resized(pumps, days, seed)
        result = _watched(cohort, rules or CoreSettings().rules, processes, compare)
    except (CohortError, RuleError) as error:
        fail(str(error), UNUSABLE)
    found = json.dumps(document(result), indent=2)
    written = [out / f"{result.cohort}.json", *plot(result, out)]
    written[0].write_text(found + "\n", encoding="utf-8")
    if as_json:
        print(found)
    else:
        show(result, Console(width=max(WIDTH, Console().width)))
        print(f"written: {', '.join(map(str, written))}")
    if not result.accepted:
        raise SystemExit(NO)


def _watched(cohort: Cohort, rules: Path, processes: int | None, compare: float | None) -> Result:
    """Run a cohort with a bar on stderr, so that stdout stays for what was found."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(cohort.name, total=cohort.pumps)

        def advanced(done: int, _: int) -> None:
            progress.update(task, completed=done)

        return run(cohort, rules, processes=processes, compare=compare, advanced=advanced)


def cohort_list(as_json: AsJson = False) -> None:
    """Show the cohorts that come with Pumpwatch.

    Exit codes: 0 shown.
    """
    names = list(available())
    print(json.dumps(names, indent=2) if as_json else "\n".join(names))
