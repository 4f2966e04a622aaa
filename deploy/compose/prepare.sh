#!/usr/bin/env bash
# Makes the secrets of deploy/compose.yaml, once: passwords, keys, and a certificate for this machine only.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets/tls
if [[ ! -e secrets/env ]]; then
  for name in POSTGRES_PASSWORD REDIS_PASSWORD SECRET_KEY SANDBOX_KEY GRAFANA_PASSWORD; do
    echo "$name=$(openssl rand -hex 32)"
  done >secrets/env
  echo "wrote deploy/compose/secrets/env: keep it, and keep a copy elsewhere"
fi
if [[ ! -e secrets/tls/privkey.pem ]]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,DNS:flow-nexus.example.org \
    -keyout secrets/tls/privkey.pem -out secrets/tls/fullchain.pem
  echo "wrote a certificate that signs itself into deploy/compose/secrets/tls: replace it by your own"
fi
