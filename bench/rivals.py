"""The rivals, written as their documentation teaches; FOLDER in the environment holds their models.

uvicorn rivals:with_sklearn | rivals:with_onnxruntime | rivals:echo
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(os.environ.get("FOLDER", "."))


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Bare ASGI: reads the body and sends bytes as long as a prediction; what uvicorn can do."""
    while (await receive()).get("more_body"):
        pass
    body = ECHO
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


ECHO = (
    b'{"prediction":"No","probabilities":{"No":0.9100000262260437,"Yes":0.08999999612569809},'
    b'"prediction_id":"01936f3a-7d5c-7e2a-b4b1-0230b800b3eb","model":"churn","version":1,'
    b'"source":"model"}'
)


def _app(predict: Callable[[dict[str, Any]], tuple[str, dict[str, float]]]) -> Any:
    from fastapi import FastAPI
    from pydantic import BaseModel, Field

    yes_no = Literal["No", "Yes"]
    service = Literal["No", "No internet service", "Yes"]

    class Customer(BaseModel):
        SeniorCitizen: int = Field(ge=0, le=1)
        tenure: int = Field(ge=0, le=100)
        MonthlyCharges: float = Field(ge=0)
        TotalCharges: float = Field(ge=0)
        gender: Literal["Female", "Male"]
        Partner: yes_no
        Dependents: yes_no
        PhoneService: yes_no
        MultipleLines: Literal["No", "No phone service", "Yes"]
        InternetService: Literal["DSL", "Fiber optic", "No"]
        OnlineSecurity: service
        OnlineBackup: service
        DeviceProtection: service
        TechSupport: service
        StreamingTV: service
        StreamingMovies: service
        Contract: Literal["Month-to-month", "One year", "Two year"]
        PaperlessBilling: yes_no
        PaymentMethod: Literal[
            "Bank transfer (automatic)",
            "Credit card (automatic)",
            "Electronic check",
            "Mailed check",
        ]

    class Answer(BaseModel):
        prediction: str
        probabilities: dict[str, float]

    app = FastAPI()

    # `async def`, though the work is not asynchronous: a thread hop a request would cost more.
    @app.post("/predict/churn")
    async def answer(customer: Customer) -> Answer:
        prediction, probabilities = predict(customer.model_dump())
        return Answer(prediction=prediction, probabilities=probabilities)

    return app


def with_sklearn() -> Any:
    """Return FastAPI around a fitted scikit-learn pipeline and a data frame a request."""
    import joblib
    import pandas as pd

    pipeline = joblib.load(FOLDER / "pipeline.joblib")
    classes = [str(label) for label in pipeline.classes_]

    def predict(row: dict[str, Any]) -> tuple[str, dict[str, float]]:
        scores = pipeline.predict_proba(pd.DataFrame([row]))[0].tolist()
        return classes[scores[1] >= 0.5], dict(zip(classes, scores, strict=True))

    return _app(predict)


def with_onnxruntime() -> Any:
    """Return FastAPI around the pipeline as skl2onnx converts it, an input a column."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        FOLDER / "pipeline.onnx", options, providers=["CPUExecutionProvider"]
    )
    kinds = {i.name: object if "string" in i.type else np.float32 for i in session.get_inputs()}
    classes = ["No", "Yes"]

    def predict(row: dict[str, Any]) -> tuple[str, dict[str, float]]:
        feeds = {name: np.array([[row[name]]], dtype=kind) for name, kind in kinds.items()}
        label, scores = session.run(None, feeds)
        return str(label[0]), dict(zip(classes, scores[0].tolist(), strict=True))

    return _app(predict)
