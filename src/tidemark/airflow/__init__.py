"""Tidemark in Airflow: the only package that imports it."""

from tidemark import lake_access
from tidemark.airflow.lake_access import look_up

# In a process of Airflow's a connection is Airflow's to look up, wherever the lake is opened.
lake_access.look_up_with(look_up)
