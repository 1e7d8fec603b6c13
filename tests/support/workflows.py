"""CI's files as what they do: each job's steps, and the make targets among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
GITHUB = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
AZURE = [PROJECT / "azure-pipelines.yml", PROJECT / ".azure" / "deploy.yml"]


def load(path: Path) -> dict[str, Any]:
    # GitHub's `on` is a text: YAML's older rules, PyYAML's too, read it as true.
    text = re.sub(r"^on:", '"on":', path.read_text(), flags=re.MULTILINE)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def steps(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every step of a file, in order."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "steps":
                yield from value
            else:
                yield from steps(value)
    elif isinstance(node, list):
        for item in node:
            yield from steps(item)


def command(step: dict[str, Any]) -> str | None:
    """Give what a step types; None for one that is somebody else's action."""
    inline = step.get("inputs", {}).get("inlineScript")
    return step.get("run") or step.get("script") or inline


def targets(path: Path) -> list[str]:
    """Name the make targets that a file's steps call, in order."""
    typed = [command(step) for step in steps(load(path))]
    return [word for text in typed if text for word in text.split()[1:]]
