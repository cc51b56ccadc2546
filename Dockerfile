# The job in a container. By default for NVIDIA GPUs; for a small image without CUDA:
#   docker build --build-arg EXTRA=cpu --build-arg BASE=ubuntu:24.04 .
# Any base with apt and Python 3.11 to 3.13 will do. The default has the CUDA version of locks/gpu.txt.
ARG BASE=nvidia/cuda:12.9.1-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS python
# Versions follow the base, which is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

FROM python AS tools
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/tools \
 && python3 -m venv --without-pip /opt/venv

# The dependencies, a layer of their own that changes with the lock alone.
FROM tools AS dependencies
ARG EXTRA=gpu
COPY locks/${EXTRA}.txt /tmp/lock.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes --requirement /tmp/lock.txt

FROM dependencies AS project
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY job job
# setuptools is there already, pinned: TensorFlow needs it.
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install \
    --no-deps --no-build-isolation --no-index --target /opt/catsdogs .

FROM python
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="catsdogs-train" \
      org.opencontainers.image.description="Trains the dogs-vs-cats convnet: from an archive in a bucket to a model in a bucket" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="MIT"

COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /opt/catsdogs /opt/catsdogs
# Group 0 may write, for platforms that choose the user and put it into that group.
RUN install --directory --owner=10001 --group=0 --mode=0775 /data

# All that is ever written lies in /data and /tmp, so that the root file system can be read-only.
ENV PATH=/opt/catsdogs/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/catsdogs \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    KERAS_HOME=/tmp/keras \
    MPLCONFIGDIR=/tmp/matplotlib \
    CUDA_CACHE_PATH=/tmp/cuda \
    CATSDOGS_VOLUME=/data
WORKDIR /data
VOLUME /data
USER 10001:0
# Handles SIGTERM itself and leaves no children behind, so it can be PID 1.
ENTRYPOINT ["catsdogs"]
CMD ["run"]
