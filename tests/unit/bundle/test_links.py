import numpy as np
import pytest
import spox.opset.ai.onnx.v21 as op
from scipy.special import expit
from scipy.special import softmax as reference_softmax

from steelyard.bundle.links import exponential, padded, softmax, two_classes


@pytest.fixture
def values():
    rng = np.random.default_rng(5)
    return np.concatenate(
        [rng.normal(size=2500) * 10, rng.uniform(-740, 700, 500), [0.0, -0.0, 36.7, 709.0]]
    )[:, None]


def test_exp_as_it_stands_depends_on_the_batch(compiled, values):
    # Why the links are written as they are; where this fails, they may be simplified.
    run = compiled(op.exp, 1, np.float64)
    alone = np.concatenate([run(values[i : i + 1]) for i in range(len(values))])
    assert (alone != run(values)).any()


@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_exponential(compiled, check_bits, values, scale):
    values = values / 3
    run = compiled(lambda x: exponential(x, scale), 1, np.float64)
    found = run(values)
    np.testing.assert_allclose(found, np.exp(scale * values), rtol=1e-14)
    check_bits(run, values, found)


def test_two_classes(compiled, check_bits, values):
    run = compiled(two_classes, 1, np.float64)
    values = np.vstack([values, [[np.inf], [-np.inf], [1e300], [-1e300]]])
    found = run(values)
    np.testing.assert_allclose(found[:, 1:], expit(values), rtol=1e-14)
    assert np.array_equal(found[:, 0], 1 - found[:, 1])
    check_bits(run, values, found)


@pytest.mark.parametrize("classes", [2, 3, 7, 8, 9, 20])
def test_softmax(compiled, check_bits, classes):
    raw = np.random.default_rng(classes).normal(size=(2000, classes)) * 8
    raw[0] = 0.0
    raw[1] = -1e300
    raw[2, :2] = [1e300, -1e300]
    full = np.pad(raw, ((0, 0), (0, padded(classes) - classes)), constant_values=-np.inf)
    run = compiled(lambda x: softmax(x, classes), padded(classes), np.float64)
    found = run(full)
    assert found.shape == raw.shape
    np.testing.assert_allclose(found, reference_softmax(raw, axis=1), rtol=1e-13, atol=1e-300)
    check_bits(run, full, found)
