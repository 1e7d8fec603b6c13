"""The Airflow Dags: one for each file of `config/`. A new source needs a file there, not here."""

from tidemark.airflow.factory import build_dags

globals().update(build_dags())
