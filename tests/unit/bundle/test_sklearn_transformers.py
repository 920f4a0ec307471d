import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)

from steelyard.core.fields import NULL_STRING

NUMBERS = ["age", "income", "balance", "level", "active"]
STRINGS = ["city", "plan"]

NUMERIC_PARTS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler(),
    MinMaxScaler((-2, 3), clip=True),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False, quantile_range=(10, 90), unit_variance=True),
    RobustScaler(with_scaling=False),
    "passthrough",
    FunctionTransformer(),
]


@pytest.mark.parametrize("part", NUMERIC_PARTS, ids=str)
def test_scalers_keep_null_and_equal_scikit_learn_s(check_pipeline_parity, part):
    # A model that takes NaN sees what the part makes of it.
    tail = RandomForestRegressor(5, random_state=0)
    check_pipeline_parity(Pipeline([("part", part), ("model", tail)]), NUMBERS, clean=True)


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(strategy="median"),
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value=-3.5),
        SimpleImputer(strategy="constant", keep_empty_features=True),
    ],
    ids=str,
)
def test_imputers_of_numbers(check_pipeline_parity, imputer):
    check_pipeline_parity(
        make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=1000)), NUMBERS
    )


def test_imputer_of_a_number_and_of_empty_columns(check_pipeline_parity):
    chain = make_pipeline(SimpleImputer(), SimpleImputer(missing_values=7.0), Ridge())
    check_pipeline_parity(chain, NUMBERS)
    for keep in (True, False):
        imputer = SimpleImputer(keep_empty_features=keep)
        check_pipeline_parity(make_pipeline(imputer, Ridge()), ["empty", *NUMBERS])


ONE_HOT = {"handle_unknown": "ignore"}


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(**ONE_HOT),
        OneHotEncoder(**ONE_HOT, sparse_output=False, dtype=np.int64),
        OneHotEncoder(**ONE_HOT, drop="first"),
        OneHotEncoder(**ONE_HOT, drop="if_binary"),
        OneHotEncoder(handle_unknown="infrequent_if_exist"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=999, encoded_missing_value=-7
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("names", [STRINGS, ["level", "active"], ["city", "level", "plan"]])
def test_encoders(check_pipeline_parity, encoder, names):
    tail = RandomForestClassifier(5, random_state=0)
    check_pipeline_parity(make_pipeline(encoder, tail), names, classes=3)


def test_encoder_with_given_categories(check_pipeline_parity):
    encoder = OneHotEncoder(
        categories=[["plus", "basic"], [0.5, 7.0]], handle_unknown="ignore", drop=["plus", 7.0]
    )
    check_pipeline_parity(make_pipeline(encoder, Ridge()), ["plan", "level"])


def test_imputer_of_strings(check_pipeline_parity):
    chain = make_pipeline(
        SimpleImputer(missing_values=NULL_STRING, strategy="most_frequent"),
        SimpleImputer(missing_values="", strategy="constant", fill_value="city 3"),
        OneHotEncoder(handle_unknown="ignore"),
        LogisticRegression(max_iter=1000),
    )
    check_pipeline_parity(chain, STRINGS)


@pytest.mark.parametrize(
    "features",
    [
        PolynomialFeatures(),
        PolynomialFeatures(3, include_bias=False),
        PolynomialFeatures((2, 3), interaction_only=True),
        PolynomialFeatures(0),
    ],
    ids=str,
)
def test_polynomials(check_pipeline_parity, features):
    chain = make_pipeline(SimpleImputer(), StandardScaler(), features, LinearRegression())
    check_pipeline_parity(chain, ["age", "balance", "level"])
