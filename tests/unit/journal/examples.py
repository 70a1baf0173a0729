"""One record of each kind."""

from __future__ import annotations

from icekeel.journal import (
    Alerted,
    Decided,
    Forgotten,
    Ingested,
    Predicted,
    Pushed,
    Quarantined,
    QuarantinedRow,
    Record,
    Refused,
    Reviewed,
    Ticked,
)

PREDICTED = Predicted(
    at=100,
    id="p1",
    model="price",
    version="v3",
    arm="champion",
    share=0.95,
    unit="a",
    key="q1",
    request={"colors": 4.0, "rush": True, "note": None},
    features={"clv": 1.5, "sent": 1_362_130_500_000_000, "substrate": "matt"},
    prediction=12.25,
    answer=15.0,
    low=None,
    high=20.0,
    action="allow",
    verdict="ok",
    reasons=[],
    position=7,
    degraded=["clv"],
    cpu_us=200,
    served_at=101,
)

ONE_OF_EACH: tuple[Record, ...] = (
    Pushed(at=1, table="orders", rows=[{"id": "1", "revenue": 2.0, "paid": True, "note": None, "n": 3}]),
    Ingested(at=2, table="orders", file="ab.parquet", sha256="ab", rows=10),
    Quarantined(at=3, table="orders", rows=[QuarantinedRow({"deep": [{"a": 1}]}, ["revenue: below 0"])]),
    PREDICTED,
    Decided(
        at=4, id="d", model="price", kind="promote", version="v3", reason="gates", evidence={"p": [0.1, None]}
    ),
    Alerted(
        at=5, id="a", model="price", cause="drift", severity="high", title="Clv moved", evidence={"sd": 2.5}
    ),
    Reviewed(
        at=7,
        id="r",
        prediction="p1",
        model="price",
        decision="rejected",
        answer=20.0,
        findings={"unseen_pair:ink+rush": ["metallic", True]},
        until=9,
        by="ann",
        reason="priced by hand",
    ),
    Forgotten(at=8, id="f", entity="customer", pseudonym="ps_1", by="ann", reason="asked for"),
    Ticked(at=6),
    Refused(at=9, model="price", asked=3, faults={"wrong_type quantity": 2, "unknown_field": 1}),
)
