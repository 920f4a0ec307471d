import pytest

from steelyard.errors import UsageError
from steelyard.serve.contracts import table
from steelyard.serve.contracts.table import NAMES, contracts_of


def names(*chosen):
    return [contract.name for contract in contracts_of(chosen, {})]


def test_everything_is_on_but_what_takes_paths_of_another():
    assert sorted(names()) == sorted(set(NAMES) - {"sagemaker"})


def test_the_chosen_takes_the_place_of_what_it_clashes_with():
    assert sorted(names("sagemaker")) == sorted(set(NAMES) - {"mlflow"})
    assert names("mlflow", "v2", "v2") == names()


def test_two_that_clash_cannot_be_chosen_together():
    with pytest.raises(UsageError, match="mlflow and sagemaker both answer /ping"):
        contracts_of(["mlflow", "sagemaker"], {})


def test_an_unknown_contract_is_told_with_the_nearest():
    with pytest.raises(UsageError, match=r"Did you mean kserve-v1\?"):
        contracts_of(["kserve"], {})


def test_the_table_in_words_is_the_table():
    for contract in table._all({}):
        line = next(
            line for line in (table.__doc__ or "").splitlines() if f"| {contract.name} |" in line
        )
        assert all(f"`{path}" in line for path in contract.paths)


def test_every_path_is_answered(stand):
    made = stand("price")
    for contract in contracts_of([], {}):
        for path in contract.paths:
            url = path.replace("{model}", "price")
            assert made.client.call("GET", url).status != 404, (contract.name, path)
