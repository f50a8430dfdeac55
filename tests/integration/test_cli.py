"""``pumpwatch …`` against a real database: what each command does, prints, and ends with."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from services import cli
from streams.settings import RULES, CoreSettings
from tests.stack import ROOT, Database

SETTING = re.compile(r"PUMPWATCH_[A-Z_]*[A-Z]")

PROFILE = {
    "pump_id": "p-1",
    "site": "north",
    "valid_from": "2026-01-01",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500.0}],
    "prescribed_ug_per_day": 240.0,
}


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs ``pumpwatch …`` in this process, with no stack beside it."""
    monkeypatch.setenv("PUMPWATCH_VAR", str(tmp_path / "var"))
    monkeypatch.delenv("PUMPWATCH_POSTGRES", raising=False)

    def run(*arguments: str, stdin: str = "") -> Said:
        monkeypatch.setattr(sys, "argv", ["pumpwatch", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return Said(code, found.out, found.err)

    return run


@pytest.fixture
def with_database(command: Command, database: Database, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The same, over a migrated database of the test's own."""
    monkeypatch.setenv("PUMPWATCH_POSTGRES", database.app)
    return command


def test_a_gateway_from_its_token_to_its_end(with_database: Command) -> None:
    """Its token is printed once; a revoked gateway stays in the list with its time."""
    added = with_database("gateways", "add", "clinic-7", "--kind", "clinic")
    before = json.loads(with_database("gateways", "list", "--json").out)
    revoked = with_database("gateways", "revoke", "clinic-7")
    again = with_database("gateways", "revoke", "clinic-7")
    after = json.loads(with_database("gateways", "list", "--json").out)

    assert (added.code, added.out[:4]) == (0, "pwg_")
    assert [(row["gateway_id"], row["kind"], row["revoked_at"]) for row in before] == [("clinic-7", "clinic", None)]
    assert (revoked.code, again.code) == (0, 1)
    assert again.err == "pumpwatch: there is no active gateway clinic-7\n"
    assert after[0]["revoked_at"] is not None
    assert added.out.strip() not in with_database("gateways", "list").out


def test_a_gateway_id_that_cannot_be_one(with_database: Command) -> None:
    """One line says what an id is."""
    said = with_database("gateways", "add", "a b")

    assert (said.code, said.err[:10], "Traceback" in said.err) == (1, "pumpwatch:", False)


def test_profiles_are_taken_in_whole_or_not_at_all(with_database: Command, tmp_path: Path) -> None:
    """A line that cannot be used is named, and the lines beside it are not taken in."""
    bad = {**PROFILE, "pump_id": "p-2", "reservoir_ml": -1}
    file = tmp_path / "pumps.jsonl"
    file.write_text(f"{json.dumps(PROFILE)}\n{json.dumps(bad)}\n")

    refused = with_database("pumps", "import", str(file))
    nothing = with_database("pumps", "list", "--json")
    taken = with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))
    again = with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))

    assert (refused.code, json.loads(nothing.out)) == (1, [])
    assert f"{file}: line 2 /reservoir_ml" in refused.err
    assert taken.out == "1 added, 0 changed, 0 as they were\n"
    assert again.out == "0 added, 0 changed, 1 as they were\n"


def test_a_file_that_cannot_be_read_is_named(with_database: Command, tmp_path: Path) -> None:
    """Exit code 2, as for a wrong argument."""
    said = with_database("pumps", "import", str(tmp_path / "nowhere.jsonl"))

    assert (said.code, f"cannot read {tmp_path / 'nowhere.jsonl'}" in said.err) == (2, True)


def test_a_pump_is_shown_with_every_version(with_database: Command) -> None:
    """The list has what is in force now, the pump its whole history."""
    later = {**PROFILE, "valid_from": "2026-02-01", "site": "south"}
    with_database("pumps", "import", "-", stdin=f"{json.dumps(PROFILE)}\n{json.dumps(later)}")

    listed = json.loads(with_database("pumps", "list", "--json").out)
    shown = json.loads(with_database("pumps", "show", "p-1", "--json").out)

    assert [(row["pump_id"], row["site"]) for row in listed] == [("p-1", "south")]
    assert [version["profile"]["site"] for version in shown] == ["north", "south"]
    assert with_database("pumps", "show", "nobody").code == 1


PLAN = ("--person", "nora", "--reason", "explant, covered by the ward")


def test_a_care_record_from_its_entry_to_its_withdrawal(with_database: Command) -> None:
    """Its id is printed; a withdrawn one is shown only when asked for."""
    with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))

    day = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    until = ("--until", "2999-01-01T18:00:00+01:00")
    refused = with_database("care", "add", "stop_plan", "p-1", *PLAN, *until)
    booked = with_database("care", "add", "refill_booked", "p-1", *PLAN, "--booked-on", day, "--json")
    listed = json.loads(with_database("care", "list", "p-1", "--json").out)
    other = json.loads(with_database("care", "list", "p-2", "--json").out)
    care_id = listed[0]["care_id"]
    gone = with_database("care", "withdraw", care_id, "--reason", "rebooked", "--person", "ben")
    again = with_database("care", "withdraw", care_id, "--reason", "rebooked")
    whole = json.loads(with_database("care", "list", "--all", "--json").out)

    assert (refused.code, refused.err) == (1, "pumpwatch: valid_until: must be at most 1095 days ahead\n")
    assert json.loads(booked.out)["care_id"] == care_id
    assert [(row["kind"], row["booked_on"], row["recorded_by"]) for row in listed] == [("refill_booked", day, "nora")]
    assert other == json.loads(with_database("care", "list", "--json").out) == []
    assert (gone.code, again.code) == (0, 1)
    assert again.err == f"pumpwatch: care record {care_id} was withdrawn already, by ben\n"
    assert [(row["withdrawn_by"], row["withdrawal_reason"]) for row in whole] == [("ben", "rebooked")]
    assert care_id in with_database("care", "list", "--all").out


def test_a_care_record_that_cannot_be_used_names_its_field(with_database: Command) -> None:
    """One line; a kind that there is not is a wrong argument."""
    with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))

    said = [
        with_database("care", "add", kind, "p-1", *PLAN, *more)
        for kind, *more in (
            ("absence",),
            ("absence", "--until", "2031-01-07"),
            ("setting", "--rule", "RSV-01", "--parameter", "nonsense", "--value", "1"),
            ("party",),
        )
    ]

    assert [one.code for one in said] == [1, 1, 1, 2]
    assert said[0].err == "pumpwatch: valid_until: field is required for absence\n"
    assert said[1].err.startswith("pumpwatch: valid_until: ")
    assert said[2].err.startswith("pumpwatch: parameter: RSV-01 has no such parameter for one patient; ")


def test_care_records_are_taken_in_whole_or_not_at_all(with_database: Command, tmp_path: Path) -> None:
    """As profiles are."""
    with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))
    good = {
        "kind": "review",
        "pump_id": "p-1",
        "rule_id": "RSV-01",
        "person": "nora",
        "reason": "seen in clinic",
        "valid_from": datetime.now(UTC).isoformat(),
    }
    file = tmp_path / "care.jsonl"
    file.write_text(f"{json.dumps(good)}\n{json.dumps({**good, 'rule_id': 'RSV-99'})}\n")

    refused = with_database("care", "import", str(file))
    nothing = with_database("care", "list", "--all", "--json")
    taken = with_database("care", "import", "-", stdin=json.dumps(good))
    again = with_database("care", "import", "-", stdin=json.dumps(good))

    assert (refused.code, json.loads(nothing.out)) == (1, [])
    assert f"{file}: line 2 /rule_id: there is no rule RSV-99" in refused.err
    assert (taken.out, again.out) == ("1 added, 0 as they were\n", "0 added, 1 as they were\n")


def test_a_site_is_told_its_time_zone(with_database: Command) -> None:
    """An unknown one is a wrong argument."""
    done, wrong = (with_database("sites", "zone", "north", zone) for zone in ("Europe/Berlin", "Mars/Olympus"))

    assert (done.code, wrong.code, "Mars/Olympus" in wrong.err) == (0, 2, True)


def test_a_person_from_their_password_to_their_end(with_database: Command) -> None:
    """The password comes from stdin and is never printed; a disabled person stays in the list."""
    word = "a long enough password"
    added = with_database(
        *("people", "add", "nora", "--name", "Nora", "--role", "primary", "--email", "nora@demo.example"),
        "--password-stdin",
        stdin=f"{word}\n",
    )
    listed = json.loads(with_database("people", "list", "--json").out)
    table = with_database("people", "list").out
    codes = [with_database("people", "disable", "nora").code for _ in range(2)]

    assert (added.code, added.out) == (0, "")
    assert [(row["person_id"], row["ladder_role"]) for row in listed] == [("nora", "primary")]
    assert word not in table
    assert codes == [0, 1]
    assert json.loads(with_database("people", "list", "--json").out)[0]["disabled_at"] is not None


def test_a_shift_from_its_entry_to_its_withdrawal(with_database: Command) -> None:
    """What cannot be entered is refused with the field and the reason."""
    with_database("people", "add", "nora", "--name", "Nora", "--password-stdin", stdin="a long enough password\n")
    times = {"--from": "2099-01-01T08:00:00+01:00", "--until": "2099-01-01T20:00:00+01:00"}

    def add(person: str = "nora", **changed: str) -> Said:
        given = {**times, **{f"--{name.rstrip('_')}": text for name, text in changed.items()}}
        return with_database("shifts", "add", person, *(part for pair in given.items() for part in pair))

    added = add()
    listed = json.loads(with_database("shifts", "list", "--json").out)
    codes = [with_database("shifts", "withdraw", added.out.strip()).code for _ in range(2)]
    refused = [
        add("nobody"),
        add(until="2099-01-01"),
        add(until="2098-01-01T00:00:00Z"),
        add(until="2099-03-01T00:00:00Z"),
    ]

    assert [(row["person_id"], row["ends_at"]) for row in listed] == [("nora", "2099-01-01T19:00:00Z")]
    assert codes == [0, 1]
    assert json.loads(with_database("shifts", "list", "--json").out) == []
    assert [said.code for said in refused] == [1, 1, 1, 1]
    assert [said.err.split(": ")[1] for said in refused] == [
        "person",
        "until",
        "until",
        "until",
    ]


def test_a_person_whom_nobody_can_tell_is_added_with_a_warning(with_database: Command) -> None:
    """It is allowed: the address may come later."""
    said = with_database(
        *("people", "add", "nora", "--name", "Nora", "--role", "primary", "--site", "nroth", "--password-stdin"),
        stdin="a long enough password\n",
    )

    assert (said.code, said.out) == (0, "")
    assert "no address" in said.err
    assert "no pump is at the site nroth" in said.err


def test_a_short_password_is_refused(with_database: Command) -> None:
    """The reason is one line and does not repeat it."""
    said = with_database("people", "add", "nora", "--name", "Nora", "--password-stdin", stdin="short\n")

    assert said.code == 1
    assert "12 to 256 characters" in said.err
    assert "short" not in said.err


def test_a_webhook_gets_a_secret(with_database: Command) -> None:
    """Its receiver needs it to check signatures, so it is printed, once."""
    said = with_database(
        *("people", "add", "hook", "--name", "Hook", "--webhook", "https://hooks.example/pump", "--password-stdin"),
        stdin="a long enough password\n",
    )

    assert said.code == 0
    assert said.out.startswith("whsec_")


async def _change_history(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("ALTER TABLE pump_profile_change DISABLE TRIGGER USER")
        await connection.execute("UPDATE pump_profile_change SET recorded_by = 'somebody else'")
    finally:
        await connection.close()


@pytest.fixture
async def forge(database: Database) -> Callable[[], None]:
    """Changes history behind the application's back."""
    return lambda: asyncio.run(_change_history(database.admin))


def test_a_changed_history_is_found(with_database: Command, forge: Callable[[], None]) -> None:
    """Intact ends with 0 and a digest, a changed row with 1 and its place."""
    with_database("pumps", "import", "-", stdin=json.dumps(PROFILE))
    intact = with_database("audit", "verify")
    forge()

    broken = with_database("audit", "verify")
    as_json = with_database("audit", "verify", "--json")

    assert (intact.code, "the history is intact: 1 rows in 1 chains; digest " in intact.out) == (0, True)
    assert (broken.code, "pump_profile_change, chain profile/p-1, row 1" in broken.err) == (1, True)
    assert (as_json.code, json.loads(as_json.out)["intact"]) == (1, False)


def test_migrating_again_changes_nothing(command: Command, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser's DSN comes from the environment or a file, never from an argument."""
    monkeypatch.setenv("PUMPWATCH_ADMIN_POSTGRES", database.admin)

    said = command("migrate")

    assert (said.code, said.out) == (0, "nothing to do\n")


def test_migrating_needs_to_know_where(command: Command) -> None:
    """A missing setting is named."""
    said = command("migrate")

    assert (said.code, "set PUMPWATCH_ADMIN_POSTGRES" in said.err) == (2, True)


def test_topics_are_provisioned(
    command: Command, kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again changes nothing; one copy outside development is refused."""
    monkeypatch.setenv("PUMPWATCH_KAFKA", kafka)
    monkeypatch.setenv("PUMPWATCH_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PUMPWATCH_REPLICATION_FACTOR", "1")

    refused = command("topics", "provision")
    monkeypatch.setenv("PUMPWATCH_DEVELOPMENT", "true")
    done = command("topics", "provision")

    assert (refused.code, "loses accepted reports" in refused.err) == (1, True)
    assert (done.code, done.out) == (0, "nothing to do\n")


@pytest.mark.parametrize("arguments", [("gateways", "list"), ("audit", "verify"), ("people", "list")])
def test_a_database_that_does_not_answer(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Exit code 3 and one line without the password."""
    monkeypatch.setenv("PUMPWATCH_POSTGRES", "postgresql://app:canary@127.0.0.1:9/pumpwatch")

    said = command(*arguments)

    assert (said.code, said.err.count("\n"), "Traceback" in said.err) == (3, 1, False)
    assert "canary" not in said.err


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_status_when_nothing_runs(command: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 1, and how to start one."""
    said = command(*arguments)

    assert (said.code, said.out) == (1, "")
    assert said.err == f"pumpwatch: no stack runs in {tmp_path / 'var'}; start one with `make run`\n"


def test_without_a_database_it_says_what_to_set(command: Command) -> None:
    """Exit code 2: it is the caller who can mend it."""
    said = command("gateways", "list")

    assert (said.code, "PUMPWATCH_POSTGRES" in said.err) == (2, True)


def test_rules_are_checked(command: Command, tmp_path: Path) -> None:
    """The shipped rules pass; a bad one is named with file and line."""
    folder = tmp_path / "rules" / "reservoir"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("id: RSV-99\ntitle: x\n")

    good, bad = command("rules", "check"), command("rules", "check", str(folder.parent))

    assert (good.code, good.out.split()[1]) == (0, "rules,")
    assert (bad.code, f"{folder / 'bad.yaml'}:" in bad.err) == (1, True)


def test_every_mistake_in_rules_is_told_also_as_json(command: Command, tmp_path: Path) -> None:
    """All of them, with file, line, field and reason; the exit code says whether there are any."""
    folder = tmp_path / "rules" / "reservoir"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("id: RSV-99\ntitle: x\nurgency: 1\n")

    good, bad = command("rules", "check", "--json"), command("rules", "check", str(folder.parent), "--json")

    said = json.loads(bad.out)
    assert (good.code, json.loads(good.out)["usable"]) == (0, True)
    assert (bad.code, said["usable"]) == (1, False)
    assert {error["field"] for error in said["errors"]} >= {"title", "urgency", "condition", "examples"}
    assert {error["line"] for error in said["errors"]} == {1, 2, 3}


def test_the_schema_of_rules_is_printed(command: Command) -> None:
    """As it is kept beside the rules."""
    said = command("rules", "schema")

    assert (said.code, said.out) == (0, (RULES / "schema.json").read_text())


def test_settings_are_shown_without_secrets(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSN carries a password; it is shown only when asked for."""
    monkeypatch.setenv("PUMPWATCH_POSTGRES", "postgresql://app:opensesame@127.0.0.1/pumpwatch")
    monkeypatch.setenv("PUMPWATCH_WEB_PORT", "9999")

    hidden, shown = command("config", "show", "--redacted", "--json"), command("config", "show", "--with-secrets")

    assert json.loads(hidden.out)["PUMPWATCH_WEB_PORT"] == "9999"
    assert "opensesame" not in hidden.out
    assert "opensesame" in shown.out


def test_every_setting_of_the_readme_is_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """And every other one; what a cluster is given does not keep the one-machine stack's from being shown."""
    monkeypatch.setenv("PUMPWATCH_REPLICATION_FACTOR", "3")
    monkeypatch.setenv("PUMPWATCH_WATCHDOG_PASSWORD", "opensesame")
    monkeypatch.setenv("PUMPWATCH_ADMIN_POSTGRES", "postgresql://postgres:opensesame@127.0.0.1/pumpwatch")
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    named = {name for row in section.splitlines() if row.startswith("|") for name in SETTING.findall(row)}
    fields = {f"PUMPWATCH_{field.upper()}" for kind in CoreSettings.__subclasses__() for field in kind.model_fields}

    said = command("config", "show", "--json")
    shown = json.loads(said.out)

    assert len(named) > 10
    assert named - set(shown) == set()
    assert fields - set(shown) == set()
    assert (shown["PUMPWATCH_REPLICATION_FACTOR"], shown["PUMPWATCH_DEVELOPMENT"]) == ("3", "False")
    assert "opensesame" not in said.out


def test_load_needs_a_gateway(command: Command) -> None:
    """Nothing is sent without a token."""
    said = command("emulate", "--pumps", "1", "--seconds", "1")

    assert (said.code, "PUMPWATCH_EMULATOR_GATEWAY_TOKEN" in said.err) == (2, True)
