"""One mail per run: on failure, on recovery, and on every end if asked for.

The callbacks are plain functions that use the SMTP hook: a Dag-level ``SmtpNotifier`` fails
silently under ``airflow dags test``. Under a scheduler Airflow calls them in the Dag processor,
which parses the Dag's file again and so finds these closures.
"""

from __future__ import annotations

import json
import logging
import re
import smtplib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow.exceptions import AirflowFailException
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk.configuration import conf
from airflow.sdk.log import redact

from tidemark import report as reports
from tidemark.airflow.mail import Mail, compose
from tidemark.errors import StateError, TidemarkError
from tidemark.layout import Lake
from tidemark.metadata import Source
from tidemark.report import Failure, RunReport
from tidemark.settings import load_settings
from tidemark.storage import Store, open_store

log = logging.getLogger(__name__)

# Airflow's context is a TypedDict of its own to which callbacks under a scheduler don't hold:
# without a task instance they get `dag`, `run_id` and `reason` alone.
Context = Mapping[str, Any]
Callback = Callable[[Context], None]
