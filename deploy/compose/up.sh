#!/usr/bin/env bash
# docker compose with the files that deploy/compose.yaml needs: `deploy/compose/up.sh`, or with words: `... logs -f`.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/compose/prepare.sh
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
export VERSION
[[ $# -gt 0 ]] || set -- up --detach --wait
exec docker compose --env-file deploy/images/bases.env --env-file deploy/compose/secrets/env --file deploy/compose.yaml "$@"
