"""A made-up table like the well-known telco churn data: 4 numbers, 15 strings, one label."""

from typing import Any, Literal

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier

import steelyard as sy
from steelyard import Field

NUMBERS = ["SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges"]
YES_NO = ["No", "Yes"]
SERVICE = ["No", "No internet service", "Yes"]
STRINGS = {
    "gender": ["Female", "Male"],
    "Partner": YES_NO,
    "Dependents": YES_NO,
    "PhoneService": YES_NO,
    "MultipleLines": ["No", "No phone service", "Yes"],
    "InternetService": ["DSL", "Fiber optic", "No"],
    "OnlineSecurity": SERVICE,
    "OnlineBackup": SERVICE,
    "DeviceProtection": SERVICE,
    "TechSupport": SERVICE,
    "StreamingTV": SERVICE,
    "StreamingMovies": SERVICE,
    "Contract": ["Month-to-month", "One year", "Two year"],
    "PaperlessBilling": YES_NO,
    "PaymentMethod": [
        "Bank transfer (automatic)",
        "Credit card (automatic)",
        "Electronic check",
        "Mailed check",
    ],
}
COLUMNS = [*NUMBERS, *STRINGS]
TREES = 100

YesNo = Literal["No", "Yes"]
Service = Literal["No", "No internet service", "Yes"]


class Customer(sy.Row):
    SeniorCitizen: int = Field(ge=0, le=1)
    tenure: int = Field(ge=0, le=100)
    MonthlyCharges: float = Field(ge=0)
    TotalCharges: float = Field(ge=0)
    gender: Literal["Female", "Male"]
    Partner: YesNo
    Dependents: YesNo
    PhoneService: YesNo
    MultipleLines: Literal["No", "No phone service", "Yes"]
    InternetService: Literal["DSL", "Fiber optic", "No"]
    OnlineSecurity: Service
    OnlineBackup: Service
    DeviceProtection: Service
    TechSupport: Service
    StreamingTV: Service
    StreamingMovies: Service
    Contract: Literal["Month-to-month", "One year", "Two year"]
    PaperlessBilling: YesNo
    PaymentMethod: Literal[
        "Bank transfer (automatic)", "Credit card (automatic)", "Electronic check", "Mailed check"
    ]


def customers(rows: int = 7_043, seed: int = 0) -> pl.DataFrame:
    """Return customers of whom about a quarter left."""
    random = np.random.default_rng(seed)
    table: dict[str, Any] = {name: random.choice(words, rows) for name, words in STRINGS.items()}
    tenure = random.integers(0, 73, rows)
    monthly = random.uniform(18, 119, rows).round(2)
    table |= {
        "SeniorCitizen": (random.random(rows) < 0.16).astype(np.int64),
        "tenure": tenure,
        "MonthlyCharges": monthly,
        "TotalCharges": (tenure * monthly * random.uniform(0.95, 1.05, rows)).round(2),
    }
    score = (
        1.2 * (table["Contract"] == "Month-to-month")
        + 0.8 * (table["InternetService"] == "Fiber optic")
        + 0.5 * (table["PaymentMethod"] == "Electronic check")
        - 0.04 * tenure
        + random.logistic(0, 1, rows)
    )
    table["Churn"] = np.where(score > np.quantile(score, 0.735), "Yes", "No")
    return pl.DataFrame(table).select([*COLUMNS, "Churn"])


def forest(leaf: int) -> RandomForestClassifier:
    """Return the forest that all serve; `leaf` is the least number of rows in a leaf."""
    return RandomForestClassifier(TREES, min_samples_leaf=leaf, random_state=0)


def churn(leaf: int) -> sy.Model:
    return sy.Model(
        name="churn",
        row=Customer,
        data=sy.Python(customers),
        label="Churn",
        positive="Yes",
        estimator=forest(leaf),
    )
