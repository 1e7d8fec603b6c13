# One image for every process of Airflow; Spark runs in the scheduler's, which runs the tasks.
FROM python:3.11.14-slim-bookworm AS base
# What mssql-python loads, and the Java that Spark runs in.
# hadolint ignore=DL3008 # Debian keeps no older version of a package to pin
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
      libgssapi-krb5-2 libkrb5-3 libltdl7 openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8
WORKDIR /build
# The processes run as a user who may write nothing there: each would compile Airflow anew.
ENV UV_COMPILE_BYTECODE=1
COPY pyproject.toml requirements.lock README.md ./
# The lock holds the tools of development too: as constraints it gives version and hash of what is
# asked for, and no more.
RUN python -m venv --without-pip /opt/tidemark/.venv \
    && uv pip install --no-cache --python /opt/tidemark/.venv/bin/python --require-hashes \
      --constraint requirements.lock \
      --requirement pyproject.toml --extra airflow --extra extract --extra spark --extra local
COPY src ./src
RUN uv build --no-cache --wheel --require-hashes --build-constraint requirements.lock \
      --out-dir /build/dist \
    && uv pip install --no-cache --no-deps --python /opt/tidemark/.venv/bin/python \
      /build/dist/tidemark-*.whl \
    && /opt/tidemark/.venv/bin/python -m tidemark.jars

# The contract suite for SQL Server: the tools of development too, and the tests.
FROM build AS contract
RUN uv pip install --no-cache --python /opt/tidemark/.venv/bin/python --require-hashes \
      --constraint requirements.lock --group dev
WORKDIR /opt/tidemark/project
COPY pyproject.toml ./
COPY tests ./tests
ENV PATH=/opt/tidemark/.venv/bin:$PATH
USER 50000:50000
CMD ["pytest", "-p", "no:cacheprovider", "tests/integration/mssql"]

FROM base
# The volumes get the owner of the folders that they cover.
RUN groupadd --gid 50000 tidemark \
    && useradd --uid 50000 --gid 50000 --create-home --shell /usr/sbin/nologin tidemark \
    && install -d -o tidemark -g tidemark \
      /opt/tidemark/home /opt/tidemark/lake /opt/tidemark/mails
COPY --from=build /opt/tidemark/.venv /opt/tidemark/.venv
WORKDIR /opt/tidemark/project
COPY config ./config
COPY dags ./dags
COPY dlt ./dlt
COPY plugins ./plugins
COPY spark_jobs ./spark_jobs
ENV PATH=/opt/tidemark/.venv/bin:$PATH \
    TIDEMARK_PROJECT=/opt/tidemark/project \
    TIDEMARK_HOME=/opt/tidemark/home \
    AIRFLOW_HOME=/opt/tidemark/home/airflow
USER 50000:50000
CMD ["airflow", "version"]
