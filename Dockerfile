ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Pins first, so that a change of code does not install them again.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && python -m venv /opt/heavylift \
    && /opt/heavylift/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/heavylift/bin/pip install --no-index --no-deps /dist/*.whl

FROM python:${PYTHON}-slim
# A fixed number, so that a mounted folder can be given to it.
RUN useradd --system --uid 10001 --user-group --no-create-home heavylift \
    && install --directory --owner heavylift --group heavylift /data /data/in /data/out
COPY --from=build /opt/heavylift /opt/heavylift
ENV PATH=/opt/heavylift/bin:$PATH PYTHONUNBUFFERED=1 WORKER_LOG=json
# Files are read under the folder that the worker starts in, and written under `out` in it.
WORKDIR /data
USER heavylift
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 \
    CMD ["arq", "--check", "worker.main.WorkerSettings"]
CMD ["heavylift", "run"]
