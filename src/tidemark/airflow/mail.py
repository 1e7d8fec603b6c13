"""A run's end as a mail: plain text, and the same as simple HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal

from tidemark.report.model import RunReport
from tidemark.report.text import render_failures, render_tables

Outcome = Literal["failed", "recovered", "succeeded"]

# What Airflow gives as the reason when it is no more than the outcome itself.
_PLAIN_REASONS = ("task_failure", "success")


@dataclass(frozen=True)
class Run:
    """The end of one Dag run, as the mail tells it; times in any zone, shown in UTC."""

    source: str
    outcome: Outcome
    run_id: str
    run_type: str | None
    interval: tuple[datetime | None, datetime | None]
    started: datetime | None
    ended: datetime
    reason: str | None
    url: str


def compose(run: Run, report: RunReport | str, sender: str, to: tuple[str, ...]) -> EmailMessage:
    """Write the mail.

    Args:
        run: The run that has ended.
        report: What it did, or why that can't be told.
        sender: The address in ``From``.
        to: The recipients.

    Raises:
        ValueError: An address holds a line break.
    """
    message = EmailMessage()
    # Whatever a run's id holds stays on the subject's one line.
    subject = f"Tidemark: {run.source} {run.outcome} ({run.run_id})"
    message["Subject"] = " ".join(subject.split())
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = formatdate(run.ended.timestamp())
    message["Message-ID"] = make_msgid(domain="tidemark.invalid")
    body = _body(report)
    message.set_content(f"{_headline(run)}\n\n{_facts_text(run)}\n\n{body}\n")
    message.add_alternative(_page(run, body), subtype="html")
    return message


def _headline(run: Run) -> str:
    return f"{run.source} {run.outcome}"


def _body(report: RunReport | str) -> str:
    if isinstance(report, str):
        return report
    parts = (render_failures(report), render_tables(report))
    return "\n\n".join(part for part in parts if part)


def _facts(run: Run) -> list[tuple[str, str]]:
    start, end = run.interval
    facts = [
        ("run", " ".join(run.run_id.split())),
        ("type", run.run_type or "unknown"),
        ("interval", f"{_moment(start)} to {_moment(end)}" if start and end else "none"),
        ("started", _started(run)),
        ("open", run.url),
    ]
    if run.reason and run.reason not in _PLAIN_REASONS:
        facts.insert(0, ("reason", run.reason.replace("_", " ")))
    return facts


def _facts_text(run: Run) -> str:
    return "\n".join(f"{name:<10}{value}" for name, value in _facts(run))


def _page(run: Run, body: str) -> str:
    rows = "".join(
        f"<tr><td>{name}</td><td>{_cell(name, value)}</td></tr>" for name, value in _facts(run)
    )
    return (
        f"<html><body><h2>{html.escape(_headline(run))}</h2>"
        f"<table>{rows}</table><pre>{html.escape(body)}</pre></body></html>"
    )


def _cell(name: str, value: str) -> str:
    text = html.escape(value)
    return f'<a href="{text}">{text}</a>' if name == "open" else text


def _started(run: Run) -> str:
    if run.started is None:
        return "unknown"
    seconds = (run.ended - run.started).total_seconds()
    return f"{_moment(run.started)}, took {seconds:.0f} s"


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
