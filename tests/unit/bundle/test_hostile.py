"""A bundle from elsewhere, sealed and whole, that wants what is not its own."""

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import Ridge

import steelyard as sy
from steelyard.bundle.compile import compile_bundle
from steelyard.bundle.format import seal
from steelyard.bundle.predictor import Predictor
from steelyard.bundle.session import open_session
from steelyard.errors import IntegrityError
from steelyard.features.columns import json_rows
from steelyard.features.parts import Part
from steelyard.train import fit

SECRET = b"SECRETS!"


def reading(location: str) -> bytes:
    """Return a graph whose weights are the bytes of a file of the machine that runs it."""
    weights = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[len(SECRET)])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(SECRET)))):
        weights.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(n, TensorProto.UINT8, [len(SECRET)]) for n in "xy")
    node = helper.make_node("BitwiseXor", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [weights])
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    "location",
    ["secret", "./secret", "inner/../secret", "../{here}/secret", "{absolute}", "/etc/passwd",
     "*/_ORT_MEM_ADDR_/*"],
)  # fmt: skip
def test_a_graph_takes_no_weights_from_files(tmp_path, monkeypatch, location):
    (tmp_path / "secret").write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    named = location.format(here=tmp_path.name, absolute=tmp_path / "secret")
    with pytest.raises(Exception, match=r"(?i)external|ONNXRuntimeError"):
        open_session(reading(named))


def test_a_graph_with_its_weights_inside_is_run():
    model = onnx.load_from_string(reading("x"))
    weights = model.graph.initializer[0]
    del weights.external_data[:]
    weights.data_location = TensorProto.DEFAULT
    weights.raw_data = SECRET
    [found] = open_session(model.SerializeToString()).run(None, {"x": np.zeros(8, np.uint8)})
    assert found.tobytes() == SECRET


class Bomb:
    """A pickle that leaves a mark where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return (Path.touch, (self.mark,))


@pytest.fixture
def bomb(tmp_path) -> tuple[bytes, Path]:
    mark = tmp_path / "mark"
    data = pickle.dumps(Bomb(mark))
    pickle.loads(data)
    assert mark.exists()  # it goes off where it is read
    mark.unlink()
    return data, mark


class Sale(sy.Row):
    price: float


@pytest.fixture(scope="module")
def compiled() -> dict[str, bytes]:
    """The files of a bundle that is good."""
    model = sy.Model(name="m", row=Sale, data=sy.Csv("t"), label="y", estimator=Ridge())
    train = {"price": np.arange(50.0)}
    fitted = fit(
        model, Part(np.arange(50), train, train["price"] * 2, train), None, "regression", 0
    )
    return compile_bundle(model, fitted.recipe, json_rows(model.fields, train))


NAMES = ["model.json", "schema.json", "golden.jsonl", "baseline.json", "packed.onnx", "model.onnx"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_under_the_name_of_any_file_does_nothing(tmp_path, compiled, bomb, name):
    data, mark = bomb
    digest, folder = seal({**compiled, name: data}, tmp_path / "bundles")
    if name == "model.onnx":  # which is for other runtimes, and not read here
        Predictor.load(folder, expected=digest)
    else:
        with pytest.raises(IntegrityError, match="no bundle that can be run"):
            Predictor.load(folder, expected=digest)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.pkl", "python_model.pkl", "MLmodel", "model.joblib"])
def test_a_pickle_beside_the_bundle_is_not_read(tmp_path, compiled, bomb, name):
    data, mark = bomb
    digest, folder = seal(compiled, tmp_path / "bundles")
    (folder / name).write_bytes(data)
    Predictor.load(folder, expected=digest)
    assert not mark.exists()


@pytest.mark.parametrize("model", ["../../etc", "/etc", "a/b", "", "a\0b", ".", "x" * 64, 5, None])
def test_a_model_may_not_be_named_like_a_path(tmp_path, compiled, model):
    """Its name becomes the folder of its prediction log."""
    document = json.loads(compiled["model.json"]) | {"model": model}
    files = {**compiled, "model.json": json.dumps(document).encode()}
    digest, folder = seal(files, tmp_path / "bundles")
    with pytest.raises(IntegrityError, match="no bundle that can be run"):
        Predictor.load(folder, expected=digest)
