# All images, one target each: `make images`, or `docker build --target fraud-transformer .` (docs/images.md).
#
# A target is a runtime without compiler, pip or apt lists; the virtual environment of its extra, with the versions of the
# lock; and the packages of ours that it imports. Each runs as a user without rights, and on a read-only root with /tmp
# as its only scratch.

# Any image with Python 3.11 in its PATH. A release names it by digest: BASE_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.11-slim-bookworm

# --- Builders ---------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# pip has an environment of its own, so that the images' have none.
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/venv
COPY pyproject.toml requirements/all.txt requirements/drift.txt requirements/of_extra.py ./
# Where packages come from is the business of who builds: a pip.conf may be given as the secret `pip`, and stays out of
# the layers and of the history.
ENV INSTALL="/opt/pip/bin/python -m pip --python /opt/venv/bin/python install --prefer-binary"

FROM builder AS transformer-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml transformer > extra.txt && $INSTALL -c all.txt -r extra.txt

FROM builder AS lightgbm-predictor-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml lightgbm-predictor > extra.txt && $INSTALL -c all.txt -r extra.txt

FROM builder AS gnn-predictor-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml gnn-predictor > extra.txt && $INSTALL -c all.txt -r extra.txt
# The build for GPUs has the same version, weighs gigabytes, and serves no request faster.
RUN /opt/venv/bin/python -c "import torch; assert torch.version.cuda is None, 'name a package index with CPU builds of torch in pip.conf'"

FROM builder AS drift-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml drift > extra.txt && $INSTALL -c drift.txt -r extra.txt

FROM builder AS decision-log-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml decision-log > extra.txt && $INSTALL -c all.txt -r extra.txt

FROM builder AS features-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml features > extra.txt && $INSTALL -c all.txt -r extra.txt

FROM builder AS pipelines-venv
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3.11 of_extra.py pyproject.toml pipelines > extra.txt && $INSTALL -c all.txt -r extra.txt
RUN /opt/venv/bin/python -c "import torch; assert torch.version.cuda is None, 'name a package index with CPU builds of torch in pip.conf'"

# Compiled here, because nothing can be written where it runs.
FROM ${BASE_IMAGE} AS code
COPY components /app/components
COPY feature_repo /app/feature_repo
COPY inference_services /app/inference_services
COPY pipelines /app/pipelines
RUN python3.11 -m compileall -q --invalidation-mode unchecked-hash /app

# --- What all images have ---------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS runtime
RUN groupadd --gid 10001 fraud \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fraud
# OpenMP threads that spin while they are idle steal the core from their neighbours.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    OMP_WAIT_POLICY=passive \
    HEALTH_URL=http://127.0.0.1:8080/v2/health/ready
WORKDIR /app
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH_URL'], timeout=2)"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="ride-hailing-fraud-platform" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# LightGBM's wheel takes OpenMP from the system. Its version is the base image's.
FROM runtime AS runtime-openmp
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
USER 10001:10001

# --- Images -----------------------------------------------------------------------------------------------------------
FROM runtime AS fraud-transformer
LABEL org.opencontainers.image.title="fraud-transformer" \
      org.opencontainers.image.description="Decides ride-hailing events: features, both models, fusion, reasons."
COPY --from=transformer-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
COPY --from=code /app/inference_services /app/inference_services
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "inference_services.transformer"]

FROM runtime-openmp AS fraud-lightgbm-predictor
LABEL org.opencontainers.image.title="fraud-lightgbm-predictor" \
      org.opencontainers.image.description="Scores events with a fraud-lightgbm bundle."
COPY --from=lightgbm-predictor-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
COPY --from=code /app/inference_services /app/inference_services
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "inference_services.lightgbm_predictor"]

FROM runtime AS fraud-gnn-predictor
LABEL org.opencontainers.image.title="fraud-gnn-predictor" \
      org.opencontainers.image.description="Scores event subgraphs with a fraud-gnn bundle."
COPY --from=gnn-predictor-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
COPY --from=code /app/inference_services /app/inference_services
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "inference_services.gnn_predictor"]

# alibi-detect is licensed BSL 1.1: see the README. The bridge that feeds it runs from this image too.
FROM runtime AS fraud-drift
LABEL org.opencontainers.image.title="fraud-drift" \
      org.opencontainers.image.description="Judges whether live features have drifted from a bundle's reference sample." \
      org.opencontainers.image.licenses="Apache-2.0 AND BUSL-1.1"
COPY --from=drift-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
COPY --from=code /app/inference_services /app/inference_services
# numba compiles into a cache folder.
ENV NUMBA_CACHE_DIR=/tmp/numba
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "inference_services.drift_detector"]

FROM runtime AS fraud-decision-log
LABEL org.opencontainers.image.title="fraud-decision-log" \
      org.opencontainers.image.description="Writes decisions from the stream to the decision log."
COPY --from=decision-log-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
COPY --from=code /app/inference_services /app/inference_services
ENV FRAUD_DECISION_LOG_METRICS_PORT=9100 HEALTH_URL=http://127.0.0.1:9100/metrics
EXPOSE 9100
ENTRYPOINT ["python", "-m", "inference_services.decision_log"]

# Ingestion runs from this image too: python -m feature_repo.ingestion_service, HTTP on 8080.
FROM runtime AS fraud-features
LABEL org.opencontainers.image.title="fraud-features" \
      org.opencontainers.image.description="Ingestion and the streaming worker: from events to features in the online store."
COPY --from=features-venv /opt/venv /opt/venv
COPY --from=code /app/feature_repo /app/feature_repo
ENV HEALTH_URL=http://127.0.0.1:9100/healthz \
    FRAUD_INGESTION_HOST=0.0.0.0
EXPOSE 8080 9100
ENTRYPOINT ["python", "-m", "feature_repo.streaming.worker"]
CMD ["--metrics-host=0.0.0.0", "--metrics-port=9100"]

# KFP names the command of every step; on its own the image is the `fraud` command.
FROM runtime-openmp AS fraud-pipelines
LABEL org.opencontainers.image.title="fraud-pipelines" \
      org.opencontainers.image.description="The steps of the training and materialisation pipelines."
COPY --from=pipelines-venv /opt/venv /opt/venv
COPY --from=code /app /app
HEALTHCHECK NONE
CMD ["python", "-m", "pipelines.cli", "--help"]
