"""Tidemark in Airflow: the only package that imports it."""

from tidemark.airflow.lake_access import look_up
from tidemark.lake_access import look_up_with

# In a process of Airflow's a connection is Airflow's to look up, wherever the lake is opened.
look_up_with(look_up)
