# The control plane: the targets `api` and `worker`. Neither has torch. Build it from the repository's root.
# PYTHON_BASE is a Debian image with Python 3.11 or newer, its venv module and pip, for example python:3.11-slim.
ARG PYTHON_BASE

FROM ${PYTHON_BASE} AS build
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY lock/api.txt lock/image-tools.txt lock/
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-deps --require-hashes -r lock/image-tools.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps --require-hashes -r lock/api.txt
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY workers workers
COPY migrations migrations
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps /wheels/*.whl \
    && mkdir /sbom \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /sbom/control.cdx.json /opt/venv

# `make images` writes its content into build/images.
FROM scratch AS sbom
COPY --from=build /sbom/control.cdx.json /

FROM ${PYTHON_BASE} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Flow Nexus" \
      org.opencontainers.image.description="Federated training across isolated sandboxes: the control plane" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 flow-nexus \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin flow-nexus \
    && install -d -o 10001 -g 10001 /var/lib/flow-nexus /var/lib/flow-nexus/models \
    && install -d /opt/flow-nexus
COPY --from=build /opt/venv /opt/venv
COPY --from=build /sbom /usr/share/flow-nexus
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Python looks for modules here first, so nobody but root may write it.
WORKDIR /opt/flow-nexus
USER 10001:10001

FROM runtime AS worker
# It asks this worker through Redis.
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s \
    CMD ["sh", "-c", "exec celery -A workers.app inspect ping --destination celery@$(hostname) --timeout 10"]
CMD ["celery", "-q", "-A", "workers.app", "worker", "--pool=threads", "--concurrency=16", \
     "--without-gossip", "--without-mingle", "--queues=flow_nexus"]

FROM runtime AS api
EXPOSE 8700
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8700/healthz', timeout=4)"]
CMD ["python", "-m", "api.serve", "--host", "0.0.0.0", "--port", "8700", "--workers", "2"]
