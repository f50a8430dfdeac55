"""What a clinical team does with the rules: try their examples, ask why, replay history, compare two rule sets.

Exit codes: 0 all is as it should be; 1 it is not: an example fails, a replay tells other alerts than were recorded, a
hazard has no cover; 2 wrong arguments or a rule that cannot be read; 3 the database does not answer, or refuses.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from services import tracing
from services.command import NO, UNUSABLE, dsn, fail, rules_of
from services.emulator.cohort.assigning import covered_by
from services.emulator.cohort.plan import load as load_cohort
from streams import replay, rulebook
from streams.domain.alert import Priority
from streams.domain.explanation import Explained, explain
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Presence, RuleBook
from streams.domain.world import World
from streams.rehearsal import ExampleError, Trial, try_example
from streams.replay import Difference, Told, differences, same_history
from streams.rule_errors import RuleError
from streams.settings import CoreSettings
from streams.store import Store

COHORT: Final = "standard"
PUMPS_AT_ONCE: Final = 10
PROCESSES: Final = 2
PATIENT_YEAR: Final = timedelta(days=365.25)
_MARKS: Final = {Presence.PRESENT: "●", Presence.ABSENT: "○", Presence.NOT_EVALUABLE: "?"}
_STYLES: Final = {Presence.PRESENT: "bold red", Presence.ABSENT: "green", Presence.NOT_EVALUABLE: "yellow"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Folder = Annotated[Path | None, typer.Option("--rules", help="Folder of rule files; PUMPWATCH_RULES when left out.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``pumpwatch rules``."""
    app.command("test")(rules_test)
    app.command("explain")(rules_explain)
    app.command("backtest")(rules_backtest)
    app.command("diff")(rules_diff)
    app.command("trace")(rules_trace)


# Examples ---------------------------------------------------------------------------------------------------------


def rules_test(
    file: Annotated[Path | None, typer.Argument(help="One rule file; every rule when left out.")] = None,
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Run the examples in the rule files through the engine, with a diff of expected and got of those that fail.

    Exit codes: 0 all examples hold; 1 one does not; 2 a file or an example cannot be read.
    """
    book = rules_of(rules or (file.resolve().parent.parent if file else None))
    wanted = _id_of(file) if file else None
    outcomes = []
    for rule, example in rulebook.examples(book):
        if wanted is None or rule.id == wanted:
            try:
                outcomes.append((rule.id, example["name"], try_example(rule, example, book)))
            except ExampleError as error:
                fail(f"{rule.id}: {example['name']}: {error}", UNUSABLE)
    failed = [outcome for outcome in outcomes if not outcome[2].passed]
    if as_json:
        print(json.dumps([_trial_document(*outcome) for outcome in outcomes], indent=2))
    else:
        _print_trials(failed, len(outcomes))
    if failed:
        raise SystemExit(NO)


def _id_of(file: Path) -> str:
    try:
        return rulebook.read(file).id
    except RuleError as error:
        fail(str(error), UNUSABLE)
    except OSError as error:
        fail(f"{file}: {error.strerror}", UNUSABLE)


def _trial_document(rule_id: str, name: str, trial: Trial) -> dict[str, Any]:
    return {"rule": rule_id, "example": name, "passed": trial.passed, "expected": trial.expected, "got": trial.got}


def _print_trials(failed: Sequence[tuple[str, str, Trial]], count: int) -> None:
    for rule_id, name, trial in failed:
        print(f"FAILED {rule_id}: {name}\n{trial.diff()}\n")
    print(f"{count - len(failed)} examples passed, {len(failed)} failed")


# Why --------------------------------------------------------------------------------------------------------------


def rules_explain(
    pump: Annotated[str, typer.Argument(help="The pump's id.")],
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"], help="UTC; now when left out."),
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule, with everything that it looked at.")] = None,
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say of every rule whether it is present, absent or not evaluable for a pump, and by which numbers.

    With --at the pump's stored history is replayed up to that moment.

    Exit codes: 0 it is said; 1 nothing was ever heard of the pump; 2 wrong arguments, or a rule cannot be read; 3 the
    database does not answer, or refuses.
    """
    book = rules_of(rules)
    if rule is not None and book.get(rule) is None:
        fail(f"there is no rule {rule}", UNUSABLE)
    moment = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    found = asyncio.run(_world(dsn(), pump, book, moment, past=at is not None))
    if found is None:
        fail(f"nothing was ever heard of a pump {pump}")
    said = [one for one in explain(*found, book, moment) if rule is None or one.rule_id == rule]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(said)).decode())
    else:
        _print_explained(said, moment, in_full=rule is not None)


async def _world(
    database: str, pump: str, rules: RuleBook, at: datetime, *, past: bool
) -> tuple[World, ProfileHistory] | None:
    store = await Store.open(database)
    try:
        stored = (await store.worlds([pump]))[pump]
        if stored.revision == 0:
            return None
        if not past:
            return stored.world, stored.profiles
        heard = await replay.heard(store.pool, datetime.now(UTC))
        [life] = await replay.lives(store.pool, [pump], at)
        return (replay.replay(life, rules, at, heard).world, life.profiles) if life.readings else None
    finally:
        await store.close()


def _print_explained(said: Iterable[Explained], at: datetime, *, in_full: bool) -> None:
    console = Console()
    table = Table(title=f"at {_text(at)}", show_lines=False)
    for heading in ("", "rule", "is", "alert", "why", "changes by itself"):
        table.add_column(heading)
    for one in said:
        steps = ", ".join(f"{step.priority} since {_text(step.at)}" for step in one.steps)
        table.add_row(
            Text(_MARKS[one.presence], style=_STYLES[one.presence]),
            f"{one.rule_id} {one.title}",
            one.presence.value,
            one.alert.value if one.alert else "",
            "; ".join(part for part in (steps, one.message) if part),
            _text(one.changes_at) if one.changes_at else "",
        )
    console.print(table)
    for one in said if in_full else ():
        console.print("parameters", dict(one.parameters))
        console.print("looked at", dict(one.looked_at))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# Backtests --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some pumps' replays: the alerts by each rule set, what was recorded, and how much there was."""

    told: tuple[tuple[Told, ...], ...]
    recorded: tuple[Told, ...]
    reports: int
    patient_time: timedelta


@dataclass(frozen=True, slots=True)
class History:
    """All pumps' replays together."""

    told: tuple[list[Told], ...]
    recorded: list[Told]
    reports: int
    pumps: int
    patient_years: float


Days = Annotated[str, typer.Option("--since", help="How far back alerts count, like 30d or 12h.")]


def rules_backtest(
    since: Days = "30d",
    rule: Annotated[Path | None, typer.Option("--rule", help="One more rule file, or a changed one.")] = None,
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Replay the stored history with the production engine, and say what each rule would have told.

    Without --rule the replay must tell exactly the alerts that were recorded. All that is stored is replayed, so that
    states are complete; only alerts since --since are shown.

    Exit codes: 0 it does, or --rule was given; 1 it tells others; 2 wrong arguments, or a rule cannot be read; 3 the
    database does not answer, or refuses.
    """
    start = datetime.now(UTC) - _duration(since)
    folder = rules or CoreSettings().rules
    book = rules_of(folder)
    extra = _read_rule(rule) if rule else None
    sources = [(folder, extra)]
    history = _replayed(dsn(), sources, start)
    other = [] if rule else same_history(history.recorded, history.told[0])
    _show_backtest(history, book, other, as_json=as_json)
    if other:
        raise SystemExit(NO)


def rules_diff(
    before: Annotated[Path, typer.Argument(help="Folder of the rules as they are.")],
    after: Annotated[Path, typer.Argument(help="Folder of the rules as they would be.")],
    since: Days = "30d",
    as_json: AsJson = False,
) -> None:
    """Replay the stored history with two rule sets: episodes gained, lost, earlier, later; pages per patient-year.

    Exit codes: 0 compared, whatever the difference; 2 wrong arguments, or a rule cannot be read; 3 the database does
    not answer, or refuses.
    """
    start = datetime.now(UTC) - _duration(since)
    for folder in (before, after):
        rules_of(folder)
    history = _replayed(dsn(), [(before, None), (after, None)], start)
    found = differences(*history.told)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(_diff_document(history, found))).decode())
    else:
        _print_diff(history, found)


def _duration(text: str) -> timedelta:
    units = {"d": "days", "h": "hours", "m": "minutes"}
    number, unit = text[:-1], units.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()) or len(number) > 5:
        fail(f"--since {text}: expected a number of days, hours or minutes, like 30d, 12h or 90m", UNUSABLE)
    return timedelta(**{unit: int(number)})


def _read_rule(file: Path) -> Path:
    _id_of(file)
    return file.resolve()


Source = tuple[Path, Path | None]


def _replayed(database: str, sources: Sequence[Source], start: datetime) -> History:
    """Replay all stored pumps with each rule set, in processes of their own, with a progress bar on stderr."""
    until = datetime.now(UTC)
    pumps, heard = asyncio.run(_fleet(database, until))
    chunks = [pumps[first : first + PUMPS_AT_ONCE] for first in range(0, len(pumps), PUMPS_AT_ONCE)]
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *Progress.get_default_columns()[1:],
        TimeElapsedColumn(),
    )
    told: tuple[list[Told], ...] = tuple([] for _ in sources)
    recorded: list[Told] = []
    reports, patient_time = 0, timedelta()
    with Progress(*columns, console=Console(stderr=True)) as progress, ProcessPoolExecutor(PROCESSES) as pool:
        bar = progress.add_task(f"replaying {len(pumps)} pumps", total=len(pumps))
        waiting: list[tuple[int, Future[Chunk]]] = [
            (len(chunk), pool.submit(_replay_chunk, database, tuple(sources), tuple(chunk), until, heard))
            for chunk in chunks
        ]
        for size, future in waiting:
            chunk = future.result()
            for kept, one in zip(told, chunk.told, strict=True):
                kept.extend(alert for alert in one if _counts(alert, start))
            recorded.extend(alert for alert in chunk.recorded if _counts(alert, start))
            reports, patient_time = reports + chunk.reports, patient_time + chunk.patient_time
            progress.advance(bar, size)
    return History(told, recorded, reports, len(pumps), patient_time / PATIENT_YEAR)


def _counts(alert: Told, start: datetime) -> bool:
    return alert.effective_from >= start


async def _fleet(database: str, now: datetime) -> tuple[list[str], replay.Heard]:
    async with asyncpg.create_pool(database, min_size=1, max_size=1, timeout=10) as pool:
        return await replay.stored_pumps(pool), await replay.heard(pool, now)


def _replay_chunk(
    database: str, sources: tuple[Source, ...], pump_ids: tuple[str, ...], until: datetime, heard: replay.Heard
) -> Chunk:
    books = [_book(*source) for source in sources]
    lives, recorded = asyncio.run(_stored(database, pump_ids, until))
    told: list[list[Told]] = [[] for _ in books]
    reports, patient_time = 0, timedelta()
    for life in lives:
        if not life.readings:
            continue
        reports += len(life.readings)
        patient_time += until - life.readings[0].received_at
        for kept, book in zip(told, books, strict=True):
            kept.extend(replay.replay(life, book, until, heard).told)
    return Chunk(tuple(tuple(one) for one in told), tuple(recorded), reports, patient_time)


_BOOKS: dict[Source, RuleBook] = {}


def _book(folder: Path, extra: Path | None) -> RuleBook:
    """A rule set, read once per process."""
    source = (folder, extra)
    if source not in _BOOKS:
        _BOOKS[source] = rulebook.load(folder, extra)
    return _BOOKS[source]


async def _stored(database: str, pump_ids: tuple[str, ...], until: datetime) -> tuple[list[replay.Life], list[Told]]:
    async with asyncpg.create_pool(database, min_size=1, max_size=1, timeout=10) as pool:
        return await replay.lives(pool, pump_ids, until), await replay.recorded(pool, pump_ids)


# Showing ----------------------------------------------------------------------------------------------------------


def _per_rule(told: Iterable[Told]) -> dict[str, dict[str, Any]]:
    opened: Counter[str] = Counter()
    high: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    for one in told:
        opened[one.rule_id] += not one.retracted
        high[one.rule_id] += not one.retracted and one.priority is Priority.HIGH
        pages[one.rule_id] += one.pages
    return {key: {"alerts": opened[key], "high": high[key], "pages": pages[key]} for key in sorted(opened)}


def _show_backtest(history: History, book: RuleBook, other: Sequence[Difference], *, as_json: bool) -> None:
    per_rule = {rule.id: {"alerts": 0, "high": 0, "pages": 0} for rule in book if rule.lives_in == "worker"}
    per_rule |= _per_rule(history.told[0])
    years = history.patient_years
    if as_json:
        document = {
            **_extent(history),
            "rules": per_rule,
            "recorded": len(history.recorded),
            "differences": other,
        }
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return
    table = Table(title=f"{history.pumps} pumps, {history.reports:,} reports, {years:.1f} patient-years")
    for heading in ("rule", "alerts", "high", "pages", "pages per patient-year"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for rule_id, figures in sorted(per_rule.items()):
        rate = figures["pages"] / years if years else 0.0
        table.add_row(rule_id, *(str(figures[name]) for name in ("alerts", "high", "pages")), f"{rate:.2f}")
    Console().print(table)
    for one in other[:20]:
        print(_difference_line(one))
    same = len(history.recorded) - sum(1 for one in other if one.before is not None)
    print(
        f"{len(history.recorded)} alerts were recorded; the replay tells {same} of them the same, {len(other)} differ"
    )


def _extent(history: History) -> dict[str, Any]:
    return {"pumps": history.pumps, "reports": history.reports, "patient_years": round(history.patient_years, 3)}


def _diff_document(history: History, found: Sequence[Difference]) -> dict[str, Any]:
    years = history.patient_years or 1.0
    pages = [sum(one.pages for one in told) for told in history.told]
    return {
        **_extent(history),
        "pages_before": pages[0],
        "pages_after": pages[1],
        "pages_per_patient_year_before": round(pages[0] / years, 3),
        "pages_per_patient_year_after": round(pages[1] / years, 3),
        "differences": found,
    }


def _print_diff(history: History, found: Sequence[Difference]) -> None:
    counts: dict[str, Counter[str]] = {}
    for one in found:
        side = one.before or one.after
        counts.setdefault(side.rule_id if side else "", Counter())[one.change] += 1
    table = Table(
        title=f"{history.pumps} pumps, {history.reports:,} reports, {history.patient_years:.1f} patient-years"
    )
    for heading in ("rule", *replay.Change):
        table.add_column(str(heading), justify="left" if heading == "rule" else "right")
    for rule_id, changed in sorted(counts.items()):
        table.add_row(rule_id, *(str(changed[change]) for change in replay.Change))
    Console().print(table)
    for one in found[:20]:
        print(_difference_line(one))
    document = _diff_document(history, found)
    print(
        f"pages per patient-year: {document['pages_per_patient_year_before']:.2f} before, "
        f"{document['pages_per_patient_year_after']:.2f} after"
    )


def _difference_line(one: Difference) -> str:
    def side(alert: Told | None) -> str:
        return f"{alert.priority} from {_text(alert.effective_from)}" if alert is not None else "none"

    known = one.before or one.after
    where = f"{known.pump_id} {known.rule_id}" if known else ""
    return f"  {one.change:9} {where}: {side(one.before)} -> {side(one.after)}"


# Traceability -----------------------------------------------------------------------------------------------------


def rules_trace(
    output: Annotated[Path | None, typer.Option(help="Write the page here, as HTML.")] = None,
    rules: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Say which rules, examples and hazards of the cohort cover each hazard.

    Exit codes: 0 each is covered, or has a reason why not; 1 one is not; 2 a rule or the hazards cannot be read.
    """
    folder = rules or CoreSettings().rules
    try:
        covers = tracing.trace(
            tracing.hazards(folder / rulebook.HAZARDS), rules_of(folder), covered_by(load_cohort(COHORT))
        )
    except tracing.HazardError as error:
        fail(str(error), UNUSABLE)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(tracing.page(covers), encoding="utf-8")
    if as_json:
        print(json.dumps(tracing.document(covers), indent=2))
    else:
        for cover in covers:
            ids = ", ".join(rule.id for rule, _ in cover.rules) or cover.hazard.unseen or ""
            print(f"{cover.hazard.id}  {cover.hazard.title}: {ids}")
    if missing := [cover for cover in covers if cover.missing]:
        fail("; ".join(f"{cover.hazard.id}: {cover.missing}" for cover in missing))
