import re

import numpy as np
import pandas as pd
import pytest
import spox
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC

from steelyard.bundle.sklearn_pipeline import check_pipeline, pipeline_graph
from steelyard.core.fields import NULL_STRING
from steelyard.errors import CompileError

STRINGS = ["city", "plan"]


def columns_of_a_user(remainder="drop"):
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), STRINGS),
            ("numbers", numbers, ["income", "balance", "level"]),
            ("unused", "drop", ["active"]),
            ("none", StandardScaler(), []),
        ],
        remainder=remainder,
    )


FINALS = [
    LogisticRegression(max_iter=2000),
    Ridge(),
    RandomForestClassifier(10, random_state=0),
    RandomForestRegressor(10, random_state=0),
]


@pytest.mark.parametrize("final", FINALS, ids=str)
@pytest.mark.parametrize("remainder", ["drop", "passthrough", MinMaxScaler()], ids=str)
def test_a_user_s_pipeline(check_pipeline_parity, remainder, final):
    # The extremes overflow float32, which scikit-learn's forests refuse.
    clean = type(final).__name__.startswith("RandomForest")
    chain = Pipeline([("preprocess", columns_of_a_user(remainder)), ("model", final)])
    check_pipeline_parity(chain, classes=3, clean=clean)


def coded():
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    return ColumnTransformer([("codes", ordinal, STRINGS)], remainder="passthrough")


@pytest.mark.parametrize("codes", [[0, 1], [0, 1, 2, 6], None])
def test_hist_gradient_boosting_compares_in_float64(check_pipeline_parity, codes):
    chain = make_pipeline(
        coded(), HistGradientBoostingClassifier(max_iter=8, categorical_features=codes)
    )
    check_pipeline_parity(chain, classes=3)


def test_categories_with_fractions_are_refused(check_pipeline_parity):
    final = HistGradientBoostingRegressor(max_iter=8, categorical_features=[5])
    with pytest.raises(CompileError, match="column 5 holds categories"):
        check_pipeline_parity(make_pipeline(coded(), final))


def test_lightgbm_compares_in_float64(check_pipeline_parity):
    lightgbm = pytest.importorskip("lightgbm")
    common = {"n_estimators": 8, "verbose": -1, "n_jobs": 1, "min_data_per_group": 5}
    check_pipeline_parity(make_pipeline(coded(), lightgbm.LGBMClassifier(**common)), classes=3)
    given = lightgbm.LGBMRegressor(categorical_feature=[0, 1, 5], **common)
    check_pipeline_parity(make_pipeline(coded(), given))


def test_columns_by_type_by_place_and_nested(check_pipeline_parity):
    inner = ColumnTransformer(
        [("first", StandardScaler(), [0, 2]), ("last", "passthrough", slice(3, 5))]
    )
    outer = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), inner), make_column_selector(
                dtype_include=np.number)),
            ("words", OneHotEncoder(handle_unknown="ignore"), [False] * 5 + [True, False]),
        ],
        sparse_threshold=0,
    )  # fmt: skip
    chain = make_pipeline(outer, "passthrough", MaxAbsScaler(), Ridge())
    check_pipeline_parity(chain)


def test_strings_pass_through_two_column_transformers(check_pipeline_parity):
    first = ColumnTransformer(
        [("words", SimpleImputer(missing_values=NULL_STRING, strategy="constant",
                                 fill_value="none"), STRINGS),
         ("numbers", SimpleImputer(), ["age", "level"])]
    )  # fmt: skip
    first.set_output(transform="pandas")
    second = ColumnTransformer(
        [("one", OneHotEncoder(handle_unknown="ignore"), ["words__plan", "words__city"]),
         ("rest", "passthrough", ["numbers__level"])]
    )  # fmt: skip
    check_pipeline_parity(make_pipeline(first, second, LogisticRegression(max_iter=1000)))


def of_columns(part):
    return Pipeline(
        [
            ("preprocess", ColumnTransformer([("text", part, ["city"])])),
            ("model", Ridge()),
        ]
    )


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (TfidfVectorizer(), "free text"),
        (SplineTransformer(), "splines"),
        (KNNImputer(), "SimpleImputer"),
        (SimpleImputer(add_indicator=True), "add_indicator"),
        (SimpleImputer(strategy=np.nanmax), "strategy"),
        (FunctionTransformer(np.log1p), "Python function"),
        (OneHotEncoder(), "handle_unknown='error'"),
        (OneHotEncoder(handle_unknown="ignore", min_frequency=5), "infrequent"),
        (OneHotEncoder(handle_unknown="ignore", max_categories=5), "infrequent"),
        (OneHotEncoder(handle_unknown="ignore", dtype=np.float32), "float32"),
        (OrdinalEncoder(), "handle_unknown='error'"),
        (PCA(), "PCA"),
    ],
    ids=lambda part: re.sub(r" at 0x\w+", "", str(part)),  # the same in every process
)
def test_a_part_is_refused_by_its_path(part, reason):
    with pytest.raises(CompileError, match=r"`preprocess > text > \w+`") as refusal:
        check_pipeline(of_columns(part))
    assert type(part).__name__ in str(refusal.value)
    assert reason in str(refusal.value)
    assert refusal.value.fix


def test_a_subclass_of_a_transformer_is_refused():
    class Doubling(StandardScaler):
        def transform(self, x, copy=None):
            return 2 * super().transform(x, copy)

    with pytest.raises(CompileError, match="Doubling"):
        check_pipeline(of_columns(Doubling()))


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (make_pipeline(StandardScaler(), SVC()), "`svc > SVC`: SVC has no faithful"),
        (make_pipeline(CalibratedClassifierCV(Ridge())), "CalibratedClassifierCV"),
        (make_pipeline(StandardScaler(), "passthrough"), "`passthrough > passthrough`"),
        (
            make_pipeline(ColumnTransformer([], remainder=SplineTransformer()), Ridge()),
            "columntransformer > remainder > SplineTransformer",
        ),
        (
            make_pipeline(
                ColumnTransformer([("a", "passthrough", [0])], transformer_weights={"a": 2}),
                Ridge(),
            ),
            "transformer_weights",
        ),
        (StandardScaler(), "StandardScaler is no scikit-learn Pipeline"),
    ],
)
def test_a_pipeline_is_refused_before_fitting(pipeline, message):
    with pytest.raises(CompileError, match=message):
        check_pipeline(pipeline)


def strings(name):
    return {name: spox.argument(spox.Tensor(np.str_, ("N",)))}


def test_imputing_null_strings_under_another_name_is_refused():
    frame = pd.DataFrame({"plan": pd.Series(["a", NULL_STRING, "b"] * 5, dtype=object)})
    chain = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"), Ridge()
    ).fit(frame, np.arange(15))
    with pytest.raises(CompileError, match=r"simpleimputer > SimpleImputer.* never finds it"):
        pipeline_graph(chain, strings("plan"))


def test_a_missing_column_and_strings_where_numbers_belong():
    frame = pd.DataFrame({"plan": [1.0, 2.0, 3.0]})
    chain = make_pipeline(StandardScaler(), Ridge()).fit(frame, np.arange(3))
    with pytest.raises(CompileError, match="columns that are not there: plan"):
        pipeline_graph(chain, strings("other"))
    with pytest.raises(CompileError, match="takes numbers, and is given strings"):
        pipeline_graph(chain, strings("plan"))


def test_categories_of_another_kind_than_the_column():
    frame = pd.DataFrame({"plan": [1.0, 2.0, 3.0]})
    encoder = OneHotEncoder(handle_unknown="ignore")
    chain = make_pipeline(encoder, Ridge()).fit(frame, np.arange(3))
    with pytest.raises(CompileError, match="categories of another kind than column 0"):
        pipeline_graph(chain, strings("plan"))
