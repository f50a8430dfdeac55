"""Words that only a patient's data holds go through the whole system and leave no trace where none may be (G9)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams import care_records, people, rulebook, topics
from streams.domain.care import CareRecord
from streams.domain.escalation import Role
from streams.profiles import import_profiles
from streams.settings import RULES
from tests.integration.ingest_ground import Ground, fresh, standing
from tests.services.notify.care import Mails, mailbox_of
from tests.services.web.ward import PASSWORD, Browser
from tests.stack import Stack, eventually

PUMP = "Quetzalcoatl-4711"
PERSON = people.NewPerson(
    person_id="zwitscherling",
    display_name="Wilhelmine Zwitscherling",
    email="wilhelmine@kolibri.example",
    ladder_role=Role.PRIMARY,
)
PROFILE: dict[str, Any] = {
    "pump_id": PUMP,
    "site": "north",
    "valid_from": "2026-01-01",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "hydromorphone", "concentration_ug_per_ml": 7391.7}],
    "prescribed_ug_per_day": 6173.9,
    "risks": ["communication_difficulty", "prior_withdrawal"],
    "implanted_on": "2019-08-23",
}
MEASURED = {"reservoir_estimated_ml": 17.390625, "temperature_celsius": 36.640625, "program_checksum": "Axolotl"}
REASON = "Daughter Xanthippe called about the spasticity"
NAME = "Ozymandias Pumpernickel"
OF_THE_PATIENT = (
    *(PUMP, "Quetzalcoatl", "hydromorphone", "7391.7", "6173.9", "communication_difficulty", "prior_withdrawal"),
    *("2019-08-23", "17.390625", "36.640625", "Axolotl", "sleepy", "Xanthippe", "spasticity", "Ozymandias"),
)
OF_THE_PERSON = ("Wilhelmine", "Zwitscherling", "kolibri", PASSWORD)
SERVICES = ("ingest", "worker", "notify", "web")


async def _known(ground: Ground) -> None:
    """The pump's profile, what a person knows of it, and who is on call."""
    now = datetime.now(UTC)
    assert not (await import_profiles(ground.pool, [json.dumps(PROFILE)], "test", now)).errors
    await people.add(ground.pool, PERSON, PASSWORD)
    booked = {
        "pump_id": PUMP,
        "kind": "refill_booked",
        "person": PERSON.person_id,
        "reason": REASON,
        "booked_on": (now + timedelta(days=3)).date().isoformat(),
    }
    outcome = await care_records.add(ground.pool, booked, PERSON.person_id, now, rulebook.load(RULES))
    assert isinstance(outcome, CareRecord), outcome


async def _sent(ground: Ground) -> None:
    """A stall with a symptom, a second word under the same identity, and what cannot be used, over both edges."""
    stall = fresh(PUMP, motor="stalled", alarms=["motor_stall"], events=[_symptom()], **MEASURED)
    named = fresh(PUMP, seq=7, patient_name=NAME)
    async with ground.gateway() as client, ground.producer() as producer:
        answer = await client.post("/v1/reports", json=[stall, named])
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert (await client.post("/v1/reports", json={**stall, "motor": "stopped"})).status_code == 202
        assert (await client.post("/v1/reports", content=f'{{"patient": "{NAME}"')).status_code == 400
        topic = ground.topic(topics.REPORTS)
        await producer.send_and_wait(topic, json.dumps(named).encode(), key=PUMP.encode())


def _symptom() -> dict[str, Any]:
    return {"type": "symptom_report", "codes": ["sleepy"]}


async def _confirmed(ground: Ground, mails: Mails) -> None:
    """The person is told, signs in after a wrong password, reads, and confirms."""
    await mails.until(1, timeout=30)
    stall = "SELECT number, alert_id FROM alert WHERE rule_id = 'DLV-01'"
    url = await ground.stack.services["web"].url("http")
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        browser = Browser(client)
        await browser.sign_in(PERSON.person_id, f"{PASSWORD}-wrong")
        assert (await browser.sign_in(PERSON.person_id)).status_code == 303
        row = await ground.pool.fetchrow(stall)
        assert row is not None
        assert PUMP in (await browser.get(f"/pumps/{PUMP}")).text
        assert (await browser.post(f"/alerts/{row['number']}/confirm")).status_code in {200, 303}
    assert await ground.pool.fetchval("SELECT confirmed_by FROM alert WHERE alert_id = $1", row["alert_id"])


async def _dead_letter(ground: Ground) -> Any:
    async def kept() -> list[Any]:
        return await ground.records(topics.DEAD_LETTERS)

    [letter] = await eventually(kept, what="the dead letter")
    return letter


def _found(words: tuple[str, ...], text: str) -> list[str]:
    return [word for word in words if word.lower() in text.lower()]


@pytest.mark.timeout(180)
async def test_nothing_of_a_patient_reaches_logs_metrics_headers_or_messages(stack: Stack, tmp_path: Path) -> None:
    """One alert from its report to its confirmation, beside reports that are refused, put aside and quarantined.

    Of the people on call logs and metrics say nothing either.
    """
    async with mailbox_of(stack) as mails, standing(stack) as ground:
        await _known(ground)
        await stack.start(*(name for name in SERVICES if name != "ingest"))
        await _sent(ground)
        await _confirmed(ground, mails)
        letter = await _dead_letter(ground)
        metrics = {name: await stack.services[name].metrics() for name in SERVICES}
        messages = await mails.all()
        token = ground.token
        logs = {name: stack.services[name].child.log.read_text(errors="replace") for name in SERVICES}
        for name in SERVICES:
            await stack.services[name].stop()
            logs[name] = stack.services[name].child.log.read_text(errors="replace")

    assert all(len(text.splitlines()) > 1 for text in logs.values())
    assert {name: found for name, text in logs.items() if (found := _found(OF_THE_PERSON, text))} == {}
    assert {name: found for name, text in logs.items() if (found := _found((*OF_THE_PATIENT, token), text))} == {}
    for name, text in metrics.items():
        assert (name, _found((*OF_THE_PATIENT, *OF_THE_PERSON, token), text)) == (name, [])
    assert _found(OF_THE_PATIENT, str(letter.headers)) == []
    assert NAME in letter.value.decode()
    assert messages
    assert _found(OF_THE_PATIENT, str(messages)) == []
