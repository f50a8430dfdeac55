"""What operators do by hand.

Exit codes: 0 done; 1 the answer is no: no stack runs, the chain is broken, a line or rule cannot be used; 2 wrong
arguments or settings; 3 the database or Kafka does not answer, or refuses.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import asyncpg
import msgspec
import typer
from aiokafka.errors import KafkaError
from pydantic import SecretStr, ValidationError

from services import cohort_commands, rules_commands
from services.command import UNREACHABLE, UNUSABLE, dsn, fail, rules_of, running_stack
from services.emulator.load import LoadPlan, generate, write_profiles
from services.emulator.settings import Settings as EmulatorSettings
from services.ingest.settings import Settings as IngestSettings
from services.notify.settings import Settings as NotifySettings
from services.standalone.mailbox import Settings as MailboxSettings
from services.standalone.settings import Settings as StackSettings
from services.watchdog.settings import Settings as WatchdogSettings
from services.web.settings import Settings as WebSettings
from streams import audit, care_records, gateways, migrations, people, profiles, rehearsal, rule_file, rulebook, shifts
from streams.domain.care import CareKind, CareRejected, care_document
from streams.domain.escalation import Role
from streams.provision import UnsafeTopic, provision
from streams.settings import PREFIX, CoreSettings
from streams.worker_settings import Settings as WorkerSettings

REDACTED: Final = "(redacted)"
EXIT_CODES: Final = "Exit codes: " + " ".join((__doc__ or "").partition("Exit codes: ")[2].split())

Value = TypeVar("Value")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, help=__doc__)


class MigrationSettings(CoreSettings):
    """Who migrates, and the passwords that roles get."""

    admin_postgres: SecretStr | None = None
    migrator_password: SecretStr | None = None
    app_password: SecretStr | None = None
    read_password: SecretStr | None = None


SETTINGS: Final[tuple[Callable[[], CoreSettings], ...]] = (
    # First, so that the services' defaults count; and what is asked of a cluster does not concern it.
    partial(StackSettings, replication_factor=1),
    MailboxSettings,
    IngestSettings,
    WorkerSettings,
    NotifySettings,
    WebSettings,
    EmulatorSettings,
    WatchdogSettings,
    MigrationSettings,
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=text)
    app.add_typer(group, name=name)
    return group


gateways_app = _group("gateways", "Who may send reports.")
pumps_app = _group("pumps", "What is known of pumps beside their telemetry.")
sites_app = _group("sites", "Where pumps are.")
care_app = _group("care", "What people know of pumps: plans, bookings, absences, reviews, sessions, settings.")
people_app = _group("people", "Who is told of alerts and may sign in.")
shifts_app = _group("shifts", "The rota: when people are on call. Somebody without any shift always is.")
audit_app = _group("audit", "Whether the history was changed.")
rules_app = _group("rules", rules_commands.__doc__ or "")
rules_commands.register(rules_app)
topics_app = _group("topics", "Kafka's topics.")
config_app = _group("config", "The settings in force.")
cohort_commands.register(_group("cohort", cohort_commands.__doc__ or ""))


def document_exit_codes(group: typer.Typer) -> None:
    """Put the exit codes under the help of every command that does not name its own."""
    for command in group.registered_commands:
        if command.callback is not None and "Exit codes:" not in (command.callback.__doc__ or ""):
            command.epilog = EXIT_CODES
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            document_exit_codes(inner.typer_instance)


def main() -> None:
    """Run a command; what goes wrong is one line on stderr and an exit code."""
    try:
        app()
    except ValidationError as error:
        for entry in error.errors(include_url=False, include_input=False):
            field = "_".join(map(str, entry["loc"])).upper()
            print(f"wrong setting {PREFIX}{field}: {entry['msg']}", file=sys.stderr)
        sys.exit(UNUSABLE)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError, KafkaError) as error:
        fail(f"no answer, or a refusal: {type(error).__name__}: {error}", UNREACHABLE)


# What runs ---------------------------------------------------------------------------------------------------------


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the addresses and secrets of the stack that `make run` started here; 1 when none runs."""
    found = running_stack()
    if found is None:
        fail(f"no stack runs in {StackSettings().var.resolve()}; start one with `make run`")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if not isinstance(value, dict):
            print(f"{name:14} {value}")
        for key, entry in value.items() if isinstance(value, dict) else ():
            print(f"{f'{name} {key}':14} {entry}")


# The database ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _database() -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(dsn(), min_size=1, max_size=2, timeout=10, command_timeout=60) as pool:
        yield pool


def _with_database(work: Callable[[asyncpg.Pool], Coroutine[Any, Any, Value]]) -> Value:
    async def run() -> Value:
        async with _database() as pool:
            return await work(pool)

    return asyncio.run(run())


def _now() -> datetime:
    return datetime.now(UTC)


# Output ------------------------------------------------------------------------------------------------------------


def _show(rows: Sequence[Any], as_json: bool, columns: Sequence[str]) -> None:
    """Print rows as a table of the columns named, or whole as JSON."""
    found = [_plain(row) for row in rows]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = [list(columns), *([_text(row.get(name)) for name in columns] for row in found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _plain(row: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(row)
    return found


def _text(value: object) -> str:
    return "-" if value is None else str(value)


# Gateways ----------------------------------------------------------------------------------------------------------


@gateways_app.command("add")
def gateways_add(gateway_id: str, kind: gateways.Kind = "home") -> None:
    """Let a gateway report; prints its token, which is shown only now."""
    try:
        print(_with_database(lambda pool: gateways.add(pool, gateway_id, kind)))
    except gateways.GatewayRefused as error:
        fail(str(error))


@gateways_app.command("list")
def gateways_list(as_json: AsJson = False) -> None:
    """Show every gateway, revoked ones too."""
    _show(_with_database(gateways.list_all), as_json, ("gateway_id", "kind", "created_at", "revoked_at"))


@gateways_app.command("revoke")
def gateways_revoke(gateway_id: str) -> None:
    """Refuse a gateway's reports from now on; 1 when it is unknown or already revoked."""
    if not _with_database(lambda pool: gateways.revoke(pool, gateway_id)):
        fail(f"there is no active gateway {gateway_id}")


# Pumps -------------------------------------------------------------------------------------------------------------


@pumps_app.command("import")
def pumps_import(
    file: Annotated[Path, typer.Argument(help="JSON Lines; - is stdin.")],
    actor: Annotated[str, typer.Option(help="Who answers for the change.")] = "operator",
) -> None:
    """Take in profiles; 1 when a line cannot be used, and then nothing is taken in."""
    lines = _lines(file)
    result = _with_database(lambda pool: profiles.import_profiles(pool, lines, actor, _now()))
    _check_taken_in(file, result)
    print(f"{result.added} added, {result.changed} changed, {result.unchanged} as they were")


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file}: {error}", UNUSABLE)
    return text.splitlines()


def _check_taken_in(file: Path, result: profiles.Imported) -> None:
    for line in result.errors:
        print(f"{file}: {line}", file=sys.stderr)
    if result.errors:
        fail("nothing was taken in")


@pumps_app.command("list")
def pumps_list(as_json: AsJson = False) -> None:
    """Show the profile in force of every pump."""
    columns = ("pump_id", "site", "valid_from", "family", "reservoir_ml")
    _show(_with_database(lambda pool: profiles.list_all(pool, _now())), as_json, columns)


@pumps_app.command("show")
def pumps_show(pump_id: str, as_json: AsJson = False) -> None:
    """Show every version of a pump's profile; 1 when there is none."""
    found = _with_database(lambda pool: profiles.show(pool, pump_id))
    if not found:
        fail(f"there is no profile of pump {pump_id}")
    _show(found, as_json, ("valid_from", "recorded_at", "recorded_by", "profile"))


@sites_app.command("zone")
def sites_zone(
    site: str, zone: Annotated[str, typer.Argument(help="Name of the IANA data base, like Europe/Berlin.")]
) -> None:
    """Say in which time zone a site is; without that it is on UTC. Booked days and quiet hours follow it."""
    try:
        _with_database(lambda pool: profiles.set_time_zone(pool, site, zone, _now()))
    except profiles.UnknownTimeZone as error:
        fail(str(error), UNUSABLE)


# Care records ------------------------------------------------------------------------------------------------------

RFC_3339: Final = "RFC 3339 with an offset, like 2026-11-03T18:00:00+01:00"


@care_app.command("add")
def care_add(
    kind: CareKind,
    pump_id: Annotated[str, typer.Argument(metavar="PUMP")],
    person: Annotated[str, typer.Option(help="The named person who knows it.")],
    reason: Annotated[str, typer.Option(help="Why, in 3 to 500 characters; no names of patients.")],
    valid_from: Annotated[
        str | None, typer.Option("--from", help=f"Since when; now when left out. {RFC_3339}.")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option("--until", help="Until when: of a stop_plan, an absence, a session, a setting.")
    ] = None,
    booked_on: Annotated[str | None, typer.Option(help="The day at the site, like 2026-11-03: of a booking.")] = None,
    session_id: Annotated[str | None, typer.Option(help="As the programmer reports it: of a session.")] = None,
    rule_id: Annotated[str | None, typer.Option("--rule", help="Of a review and a setting.")] = None,
    parameter: Annotated[str | None, typer.Option(help="Of a setting.")] = None,
    value: Annotated[float | None, typer.Option(help="Of a setting.")] = None,
    as_json: AsJson = False,
) -> None:
    """Enter what somebody knows of a pump; prints the record's id. 1 when a field cannot be used."""
    given = {
        "kind": kind,
        "pump_id": pump_id,
        "person": person,
        "reason": reason,
        "valid_from": valid_from,
        "valid_until": valid_until,
        "booked_on": booked_on,
        "session_id": session_id,
        "rule_id": rule_id,
        "parameter": parameter,
        "value": value,
    }
    document = {name: entry for name, entry in given.items() if entry is not None}
    rules = rules_of()
    outcome = _with_database(lambda pool: care_records.add(pool, document, person, _now(), rules))
    if isinstance(outcome, CareRejected):
        fail(f"{outcome.pointer.lstrip('/') or 'record'}: {outcome.reason}")
    print(json.dumps(care_document(outcome), indent=2) if as_json else outcome.care_id)


@care_app.command("list")
def care_list(
    pump_id: Annotated[str | None, typer.Argument(metavar="[PUMP]", help="Only of this pump.")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Also what has ended or was withdrawn.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what counts now or will count."""
    still_at = None if whole else _now()
    found = _with_database(lambda pool: care_records.list_all(pool, pump_id, still_at))
    rows = [
        {**care_document(entry.record), **{name: value for name, value in _plain(entry).items() if name != "record"}}
        for entry in found
    ]
    columns = ("care_id", "pump_id", "kind", "valid_from", "valid_until", "booked_on", "rule_id", "parameter", "value")
    _show(rows, as_json, (*columns, "person", *(("withdrawn_at",) if whole else ())))


@care_app.command("withdraw")
def care_withdraw(
    care_id: Annotated[str, typer.Argument(metavar="ID")],
    reason: Annotated[str, typer.Option(help="Why, in 3 to 500 characters.")],
    person: Annotated[str, typer.Option(help="Who takes it back.")] = "operator",
    as_json: AsJson = False,
) -> None:
    """Take a record back: from now on it counts no more; 1 when there is none, or it has ended."""
    try:
        record = _with_database(lambda pool: care_records.withdraw(pool, care_id, person, reason, _now()))
    except care_records.WithdrawRefused as error:
        fail(str(error))
    if as_json:
        print(json.dumps(care_document(record), indent=2))


@care_app.command("import")
def care_import(
    file: Annotated[Path, typer.Argument(help="JSON Lines; - is stdin.")],
    actor: Annotated[str, typer.Option(help="Who answers for the entry.")] = "operator",
) -> None:
    """Take in records; 1 when a line cannot be used, and then nothing is taken in."""
    lines, rules = _lines(file), rules_of()
    result = _with_database(lambda pool: care_records.import_records(pool, lines, actor, _now(), rules))
    _check_taken_in(file, result)
    print(f"{result.added} added, {result.unchanged} as they were")


# People ------------------------------------------------------------------------------------------------------------


@people_app.command("add")
def people_add(
    person_id: Annotated[str, typer.Argument(help="Sign-in name.")],
    name: Annotated[str, typer.Option(help="What others read in `confirmed by`.")],
    role: Annotated[Role | None, typer.Option(help="Place on the ladders; none: is never told of alerts.")] = None,
    email: Annotated[str | None, typer.Option(help="Where alerts go.")] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Address that alerts go to; its secret is made and printed.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Told of this site only; none: of every site.")] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from stdin instead of asking.")] = False,
) -> None:
    """Add somebody who may sign in and, with a role, is told of alerts; what looks like a slip is said."""
    secret = people.new_webhook_secret() if webhook else None
    password = sys.stdin.readline().rstrip("\n") if password_stdin else getpass.getpass("Password: ")
    person = people.NewPerson(
        person_id=person_id,
        display_name=name,
        email=email,
        webhook_url=webhook,
        webhook_secret=secret,
        ladder_role=role,
        site=site,
    )

    async def added(pool: asyncpg.Pool) -> list[str]:
        await people.add(pool, person, password)
        return await people.doubts(pool, person)

    try:
        doubts = _with_database(added)
    except people.PersonRefused as error:
        fail(str(error))
    for doubt in doubts:
        print(f"pumpwatch: {doubt}", file=sys.stderr)
    if secret:
        print(secret)


@people_app.command("list")
def people_list(as_json: AsJson = False) -> None:
    """Show everybody, disabled ones too."""
    columns = ("person_id", "display_name", "ladder_role", "site", "email", "webhook_url", "disabled_at")
    _show(_with_database(people.list_all), as_json, columns)


@people_app.command("disable")
def people_disable(person_id: str) -> None:
    """Take somebody's access and place on the ladders; 1 when nobody with access has this name."""
    if not _with_database(lambda pool: people.disable(pool, person_id, _now())):
        fail(f"nobody with access is called {person_id}")


@shifts_app.command("add")
def shifts_add(
    person_id: Annotated[str, typer.Argument(metavar="PERSON", help="Sign-in name.")],
    starts_at: Annotated[str, typer.Option("--from", help=f"Inclusive. {RFC_3339}.")],
    ends_at: Annotated[str, typer.Option("--until", help="Exclusive; at most 31 days later.")],
) -> None:
    """Put somebody on call for a time, from then on at no other; prints the shift's id. 1 when it cannot be entered."""
    begin, end = _moment("from", starts_at), _moment("until", ends_at)
    try:
        print(_with_database(lambda pool: shifts.add(pool, person_id, begin, end, _now())))
    except shifts.ShiftRefused as error:
        fail(str(error))


def _moment(field: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{field}: expected {RFC_3339}, not {text!r}")
    if moment.tzinfo is None:
        fail(f"{field}: expected {RFC_3339}, not {text!r}")
    return moment


@shifts_app.command("list")
def shifts_list(as_json: AsJson = False) -> None:
    """Show the shifts that are on or will come."""
    found = _with_database(lambda pool: shifts.list_all(pool, _now()))
    _show(found, as_json, ("shift_id", "person_id", "starts_at", "ends_at"))


@shifts_app.command("withdraw")
def shifts_withdraw(shift_id: int) -> None:
    """Take a shift out of the rota; 1 when there is none with this id."""
    if not _with_database(lambda pool: shifts.withdraw(pool, shift_id, _now())):
        fail(f"there is no shift {shift_id}")


# History, rules, topics, settings ----------------------------------------------------------------------------------


@audit_app.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """Recompute every hash chain of the history; 1 when a row was changed or is missing, naming the first."""
    found = _with_database(audit.inspect)
    if as_json:
        print(json.dumps({"intact": isinstance(found, audit.Verified), **msgspec.to_builtins(found)}, indent=2))
    if isinstance(found, audit.Broken):
        fail(f"the history was changed: {found}")
    if not as_json:
        print(f"the history is intact: {found.rows} rows in {found.chains} chains; digest {found.digest}")


@rules_app.command("check")
def rules_check(
    folder: Annotated[Path | None, typer.Argument(help="Folder of rule files; PUMPWATCH_RULES when left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read every rule file and run its examples: what running processes do before they take a changed folder over.

    Exit codes: 0 every file can be used and every example holds; 1 some cannot or do not, and all of them are named
    with file, line and field.
    """
    found = rulebook.survey(folder or CoreSettings().rules)
    errors = [
        {"file": str(error.path), "line": error.line, "field": error.field, "reason": error.reason}
        for error in found.errors
    ]
    failed = [] if found.rules is None else list(rehearsal.failures(found.rules))
    rules = 0 if found.rules is None else len(found.rules)
    told = 0 if found.rules is None else sum(1 for _ in rulebook.examples(found.rules))
    if as_json:
        summary = {"usable": not errors and not failed, "rules": rules, "examples": told}
        print(json.dumps({**summary, "errors": errors, "failures": msgspec.to_builtins(failed)}, indent=2))
    else:
        for problem in (*found.errors, *failed):
            print(problem, file=sys.stderr)
    if errors or failed:
        fail(f"{len(errors)} errors in rule files, {len(failed)} examples that do not hold")
    if not as_json:
        print(f"{rules} rules, {told} examples")


@rules_app.command("schema")
def rules_schema() -> None:
    """Print the JSON Schema of a rule file, for editors; alert_rules/schema.json is this."""
    print(rule_file.schema_text(), end="")


@app.command()
def migrate() -> None:
    """Bring the database to this version: roles, then tables.

    PUMPWATCH_ADMIN_POSTGRES is the DSN of a superuser or of the database's owner with CREATEROLE. The roles' passwords
    are set by PUMPWATCH_APP_PASSWORD, PUMPWATCH_READ_PASSWORD and PUMPWATCH_MIGRATOR_PASSWORD. Each may be a file:
    ..._FILE.
    """
    settings = MigrationSettings()
    if settings.admin_postgres is None:
        fail("which database? set PUMPWATCH_ADMIN_POSTGRES or PUMPWATCH_ADMIN_POSTGRES_FILE", UNUSABLE)
    given = {
        migrations.MIGRATOR: settings.migrator_password,
        migrations.APPLICATION: settings.app_password,
        migrations.READER: settings.read_password,
    }
    passwords = {role: password.get_secret_value() for role, password in given.items() if password is not None}
    try:
        applied = asyncio.run(migrations.migrate(settings.admin_postgres.get_secret_value(), passwords))
    except migrations.MigrationRefused as error:
        fail(str(error))
    print("\n".join(applied) if applied else "nothing to do")


@topics_app.command("provision")
def topics_provision() -> None:
    """Make the topics that are missing and check the others; 1 when one would lose records."""
    try:
        made = asyncio.run(provision(CoreSettings()))
    except UnsafeTopic as error:
        fail(str(error))
    print("\n".join(made) if made else "nothing to do")


@config_app.command("show")
def config_show(
    redacted: Annotated[bool, typer.Option("--redacted/--with-secrets", help="Whether to hide secrets.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show the settings that every process, `migrate` and `make run` would start with in this environment."""
    settings = {name: value for kind in SETTINGS for name, value in dict(kind()).items()}
    shown = {f"{PREFIX}{name.upper()}": _open(value, redacted) for name, value in sorted(settings.items())}
    if as_json:
        print(json.dumps(shown, indent=2))
        return
    for name, value in shown.items():
        print(f"{name}={value}")


def _open(value: object, redacted: bool) -> str:
    if isinstance(value, SecretStr):
        return (REDACTED if value.get_secret_value() else "") if redacted else value.get_secret_value()
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict) else str(value)


# Load --------------------------------------------------------------------------------------------------------------


@app.command()
def emulate(
    pumps: Annotated[int, typer.Option(min=1, help="How many pumps.")] = 1_000,
    rate: Annotated[float, typer.Option(min=0, help="Reports per second, of all pumps together.")] = 100.0,
    batch: Annotated[int, typer.Option(min=1, max=1_000, help="Reports per request.")] = 100,
    seconds: Annotated[float | None, typer.Option(help="How long; until Ctrl-C when left out.")] = None,
    alarm_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of reports that are a new pump's stall.")
    ] = 0.0,
    old: Annotated[int, typer.Option(min=0, help="Old reports handed in beside that.")] = 0,
    ledger: Annotated[Path | None, typer.Option(help="File that gets the identity of each accepted report.")] = None,
    profile_file: Annotated[
        Path | None, typer.Option(help="Only write the pumps' profiles here, for `pumps import`; send nothing.")
    ] = None,
    name: Annotated[str, typer.Option(help="Begins every pump id; the present time when left out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Load ingest with plain pumps, at fixed moments whether or not it keeps up; prints counts and latencies.

    It reports to the stack that runs here, or to PUMPWATCH_EMULATOR_INGEST_URL as PUMPWATCH_EMULATOR_GATEWAY_ID with
    PUMPWATCH_EMULATOR_GATEWAY_TOKEN.
    """
    figures = {"pumps": pumps, "rate": rate, "batch": batch, "seconds": seconds, "alarm_share": alarm_share}
    plan = _plan(name or f"load-{_now():%Y%m%d%H%M%S}", old=old, ledger=ledger, **figures)
    if profile_file is not None:
        print(f"{write_profiles(plan, profile_file)} profiles")
        return
    summary = asyncio.run(_emulate(plan))
    text = "\n".join(f"{key:20} {value}" for key, value in summary.items())
    print(json.dumps(summary, indent=2) if as_json else text)


def _plan(name: str, **figures: Any) -> LoadPlan:
    url, gateway_id, token = _ingest()
    try:
        return LoadPlan(url=url, gateway_id=gateway_id, token=token, name=name, **figures)
    except ValueError as error:
        fail(str(error), UNUSABLE)


async def _emulate(plan: LoadPlan) -> dict[str, float]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return (await generate(plan, stop=stop)).summary()


def _ingest() -> tuple[str, str, SecretStr]:
    settings, found = EmulatorSettings(), running_stack()
    if settings.emulator_gateway_token.get_secret_value() or found is None:
        if not settings.emulator_gateway_token.get_secret_value():
            fail("as which gateway? set PUMPWATCH_EMULATOR_GATEWAY_TOKEN, or start a stack with `make run`", UNUSABLE)
        return settings.emulator_ingest_url, settings.emulator_gateway_id, settings.emulator_gateway_token
    return found["ingest"], found["gateway_id"], SecretStr(found["gateway_token"])


document_exit_codes(app)

if __name__ == "__main__":
    main()
