"""Whatever a gateway sends: a named answer, never a server's error, and every usable report beside it is kept."""

from __future__ import annotations

import pytest

from services.ingest.judging import Reason
from services.ingest.problems import MEANING, Kind
from tests.services.ingest.bad_inputs import Case, cases
from tests.services.ingest.edge import NOON, Edge

CASES = cases(NOON)


def test_every_case_has_a_name_of_its_own() -> None:
    """The table is worth something only while its cases can be told apart."""
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_bad_input_gets_its_named_answer(case: Case) -> None:
    """Status and reason are those of the table; what was usable beside it is kept, and nothing else."""
    edge = Edge()

    response = await edge.post(case.body, case.headers, case.authorization)

    assert response.status_code == case.status, response.text
    answer = response.json()
    assert sorted(edge.publisher.pumps()) == sorted(case.kept)
    if case.status == 202:
        assert answer["accepted"] == len(case.kept)
        assert [one["reason"] for one in answer["rejected"]] == [case.reason]
    else:
        assert answer["type"] == f"urn:pumpwatch:problem:{case.reason}"
        assert (answer["status"], answer["title"]) == (case.status, MEANING[Kind(case.reason)][1])
        assert response.headers["content-type"] == "application/problem+json"
        assert case.pointer is None or answer["pointer"] == case.pointer
    if case.word is not None:
        assert answer["rejected"][0]["reason"] == case.word


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_no_value_of_a_report_is_quoted(case: Case) -> None:
    """An answer may reach logs of others: it names fields and reasons, and quotes nothing that was sent."""
    response = await Edge().post(case.body, case.headers, case.authorization)

    assert "never-kept" not in response.text
    assert "pump-1" not in response.text
    assert "home-1" not in response.text


async def test_every_rejection_is_counted_under_its_reason() -> None:
    """Operators see what gateways get wrong without reading any report."""
    edge = Edge()
    rejecting = [case for case in CASES if case.word is not None]

    for case in rejecting:
        await edge.post(case.body, case.headers, case.authorization)

    counted = {
        reason: edge.value("pumpwatch_reports_rejected_total", transport="http", reason=reason) for reason in Reason
    }
    assert {case.word for case in rejecting} == {reason for reason, count in counted.items() if count}
