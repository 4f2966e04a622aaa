#!/usr/bin/env bash
# Builds the images api, worker and sandbox-host, and writes what is in them into build/images: `make images`.
# BUILDER: docker, podman or buildah. BUILD_FLAGS: options for it. PREFIX: your registry and folder, with a slash.
# TORCH_INDEX: a package index with CPU builds of torch.
set -euo pipefail
cd "$(dirname "$0")/../.."

base=${PYTHON_BASE:-$(sed -n 's/^PYTHON_BASE=//p' deploy/images/bases.env)}
if [[ ! $base =~ ^[^@[:space:]]+@sha256:[0-9a-f]{64}$ ]]; then
  echo "PYTHON_BASE must have a digest, name:tag@sha256:... Set it in deploy/images/bases.env, see docs/deploying.md" >&2
  exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
builder=${BUILDER:-docker}
command=("$builder" build)
# Only this format keeps the health checks.
[[ $builder == docker ]] || command+=(--format docker)
read -ra flags <<<"${BUILD_FLAGS:-}"

build() { # FILE TARGET [OPTION ...]
  local file=$1 target=$2
  shift 2
  "${command[@]}" "${flags[@]}" --file "deploy/images/$file.Dockerfile" --target "$target" \
    --build-arg "PYTHON_BASE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" "$@" .
}

mkdir -p build/images
build control api --tag "${PREFIX:-}flow-nexus-api:$version"
build control worker --tag "${PREFIX:-}flow-nexus-worker:$version"
build control sbom --output type=local,dest=build/images
[[ ${WITHOUT_HOST:-} ]] && exit
torch=(--build-arg "TORCH_INDEX=${TORCH_INDEX:-}")
build sandbox-host sandbox-host "${torch[@]}" --tag "${PREFIX:-}flow-nexus-sandbox-host:$version"
build sandbox-host sbom "${torch[@]}" --output type=local,dest=build/images
