"""The rivals, written as their documentation teaches; FOLDER in the environment holds their models.

uvicorn rivals:with_sklearn | rivals:with_onnxruntime | rivals:echo
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from peers.scoring import Graph, Pipeline

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


def _app(predict: Callable[[list[dict[str, Any]]], list[list[float]]]) -> Any:
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

    class Customers(BaseModel):
        rows: list[Customer]

    class Answer(BaseModel):
        prediction: str
        probabilities: dict[str, float]

    class Answers(BaseModel):
        predictions: list[Answer]

    def answered(scores: list[float]) -> Answer:
        likely = "Yes" if scores[1] >= 0.5 else "No"
        return Answer(prediction=likely, probabilities={"No": scores[0], "Yes": scores[1]})

    app = FastAPI()

    # `async def`, though the work is not asynchronous: a thread hop a request would cost more.
    @app.post("/predict/churn")
    async def one(customer: Customer) -> Answer:
        return answered(predict([customer.model_dump()])[0])

    @app.post("/predict/churn/rows")
    async def many(customers: Customers) -> Answers:
        scores = predict([customer.model_dump() for customer in customers.rows])
        return Answers(predictions=[answered(one) for one in scores])

    return app


def with_sklearn() -> Any:
    """Return FastAPI around a fitted scikit-learn pipeline and a data frame a request."""
    pipeline = Pipeline(FOLDER)
    return _app(lambda rows: pipeline(rows).tolist())


def with_onnxruntime() -> Any:
    """Return FastAPI around the pipeline as skl2onnx converts it, an input a column."""
    graph = Graph(FOLDER)
    return _app(lambda rows: graph(rows).tolist())
