import pytest

from steelyard.errors import UsageError
from steelyard.flow.hosting import SAGEMAKER_MODEL, Hosting, hosting

HERE = Hosting("127.0.0.1", 8000, (), "")


def test_a_machine_of_ones_own_listens_to_itself_only(tmp_path):
    assert hosting({}, tmp_path / "none") == HERE
    assert hosting({"PORT": "9000"}, tmp_path / "none") == Hosting(port=9000)
    assert hosting({"STEELYARD_REF": "churn@3"}, tmp_path / "none").ref == "churn@3"


def test_cloud_run_and_knative_say_the_port_and_are_answered_from_outside(tmp_path):
    found = hosting({"K_SERVICE": "churn", "PORT": "8081"}, tmp_path / "none")
    assert found == Hosting("0.0.0.0", 8081)


def test_sagemaker_has_unpacked_the_model(tmp_path):
    assert hosting({}, tmp_path) == Hosting("0.0.0.0", 8080, ("sagemaker",), str(tmp_path))
    found = hosting({"SAGEMAKER_BIND_TO_PORT": "8087", "STEELYARD_REF": "churn"}, tmp_path)
    assert (found.port, found.ref) == (8087, "churn")
    assert SAGEMAKER_MODEL.parts[1:] == ("opt", "ml", "model")


def test_vertex_says_the_port_and_where_the_artifacts_are(tmp_path):
    found = hosting({"AIP_HTTP_PORT": "8082", "AIP_STORAGE_URI": "gs://b/m"}, tmp_path)
    assert found == Hosting("0.0.0.0", 8082, ("vertex",), "gs://b/m")
    assert hosting({"AIP_HTTP_PORT": ""}, tmp_path).port == 8080


@pytest.mark.parametrize("port", ["x", "-1", "65536", "8e3", "²", "9" * 5_000])
def test_a_port_that_is_none_is_told(tmp_path, port):
    for name in ("PORT", "AIP_HTTP_PORT"):
        with pytest.raises(UsageError, match=f"{name} must be a port"):
            hosting({name: port}, tmp_path / "none")
