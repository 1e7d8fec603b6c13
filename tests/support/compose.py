"""The compose file as the engine reads it: merged, and with the variables of an `.env`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "docker-compose.yaml"
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:\?[^}]*)?\}")


def load(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the compose file; without variables each is left as it stands.

    Raises:
        KeyError: A variable has no value.
    """
    text = FILE.read_text()
    if variables is not None:
        text = _VARIABLE.sub(lambda match: variables[match[1]], text).replace("$$", "$")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def variables_asked_for() -> set[str]:
    """Name the variables that the compose file takes from `.env`."""
    return {match[1] for match in _VARIABLE.finditer(FILE.read_text())}


def read_env(text: str) -> dict[str, str]:
    """Read an `.env`: lines `NAME=value`, and comments."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def command(service: Mapping[str, Any]) -> list[str]:
    """Give a service's command as words."""
    value = service.get("command", [])
    return value.split() if isinstance(value, str) else list(value)
