"""The trees behind FastAPI, served in its environment: `uvicorn fastapi_app:app`; TREES names the file."""

import os
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, create_model

booster = lightgbm.Booster(model_file=os.environ["TREES"])
FIELDS: dict[str, Any] = {f"v{at}": (float, ...) for at in range(booster.num_feature())}
Row = create_model("Row", **FIELDS)
app = FastAPI()


class Answer(BaseModel):
    """What is answered."""

    prediction: float


@app.post("/table")  # type: ignore[untyped-decorator]
def table(row: Row) -> Answer:  # type: ignore[valid-type]
    """In a thread, as FastAPI's documentation has code that computes; with a data frame, as a model trained on one."""
    return Answer(prediction=float(booster.predict(pd.DataFrame([row.model_dump()]), num_threads=1)[0]))  # type: ignore[attr-defined]


@app.post("/plain")  # type: ignore[untyped-decorator]
def plain(row: Row) -> Answer:  # type: ignore[valid-type]
    """In a thread, without a data frame."""
    return Answer(prediction=float(booster.predict(_values(row), num_threads=1)[0]))


@app.post("/lean")  # type: ignore[untyped-decorator]
async def lean(row: Row) -> Answer:  # type: ignore[valid-type]
    """The least that one can write: no thread, no data frame."""
    return Answer(prediction=float(booster.predict(_values(row), num_threads=1)[0]))


def _values(row: Row) -> Any:  # type: ignore[valid-type]
    return np.array([[getattr(row, name) for name in FIELDS]])
