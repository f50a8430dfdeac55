"""The metrics keep to the naming rules, and no series tells of a pump or a gateway."""

from __future__ import annotations

import re

from services.ingest.metrics import FeederState, Metrics
from tests.services.ingest.bad_inputs import cases
from tests.services.ingest.edge import NOON, Edge


async def test_names_and_labels_are_bounded() -> None:
    """One prefix, base units, and labels from closed lists, after every case of bad input."""
    edge = Edge()
    for case in cases(NOON):
        await edge.post(case.body, case.headers, case.authorization)

    families = list(edge.metrics.registry.collect())
    samples = [sample for family in families for sample in family.samples]

    assert all(re.fullmatch(r"pumpwatch_[a-z_]+", family.name) for family in families)
    assert not any(family.name.endswith(("_ms", "_minutes", "_mb")) for family in families)
    assert len(samples) < 600
    for sample in samples:
        assert sample.labels.keys() <= {"transport", "outcome", "reason", "lane", "part", "state", "buffer", "le"}
        assert not any("pump-" in value or "home-" in value for value in sample.labels.values())


def test_the_feeder_is_in_one_state() -> None:
    """Exactly one state is 1."""
    metrics = Metrics()

    metrics.feeder_does(FeederState.WAITING)

    values = {s: metrics.registry.get_sample_value("pumpwatch_feeder_state", {"state": s}) for s in FeederState}
    assert values == {s: float(s is FeederState.WAITING) for s in FeederState}
