"""The oracle against the example of Databricks' own documentation, in its order of arrival."""

from __future__ import annotations

import pytest
from scd_oracle import Event, current, history


def _event(user: int, name: str | None, city: str | None, operation: str, number: int) -> Event:
    return Event(user, number, operation == "DELETE", (("name", name), ("city", city)))


# https://docs.databricks.com/aws/en/ldp/cdc: "Example: SCD type 1 and SCD type 2 processing".
DOCUMENTED = [
    _event(124, "Raul", "Oaxaca", "INSERT", 1),
    _event(123, "Isabel", "Monterrey", "INSERT", 1),
    _event(125, "Mercedes", "Tijuana", "INSERT", 2),
    _event(126, "Lily", "Cancun", "INSERT", 2),
    _event(123, None, None, "DELETE", 6),
    _event(125, "Mercedes", "Guadalajara", "UPDATE", 6),
    _event(125, "Mercedes", "Mexicali", "UPDATE", 5),
    _event(123, "Isabel", "Chihuahua", "UPDATE", 5),
]
NAMES = ["name", "city"]


def test_scd1_as_documented() -> None:
    assert current(DOCUMENTED, NAMES) == {
        (124, "Raul", "Oaxaca"),
        (125, "Mercedes", "Guadalajara"),
        (126, "Lily", "Cancun"),
    }


def test_scd2_as_documented() -> None:
    assert history(DOCUMENTED, NAMES, tracked=NAMES) == {
        (123, "Isabel", "Monterrey", 1, 5),
        (123, "Isabel", "Chihuahua", 5, 6),
        (124, "Raul", "Oaxaca", 1, None),
        (125, "Mercedes", "Tijuana", 2, 5),
        (125, "Mercedes", "Mexicali", 5, 6),
        (125, "Mercedes", "Guadalajara", 6, None),
        (126, "Lily", "Cancun", 2, None),
    }


def test_scd2_with_an_untracked_city_as_documented() -> None:
    assert history(DOCUMENTED, NAMES, tracked=["name"]) == {
        (123, "Isabel", "Chihuahua", 1, 6),
        (124, "Raul", "Oaxaca", 1, None),
        (125, "Mercedes", "Guadalajara", 2, None),
        (126, "Lily", "Cancun", 2, None),
    }


@pytest.mark.parametrize("order", [1, -1])
def test_ties_and_late_events_do_not_depend_on_arrival(order: int) -> None:
    events = [
        _event(1, "a", "x", "UPDATE", 1),
        _event(1, "b", "x", "UPDATE", 1),  # sorts after a: counts
        _event(1, "c", "x", "UPDATE", 3),
        _event(1, None, None, "DELETE", 3),  # wins over c
        _event(1, "late", "x", "UPDATE", 2),  # a closed interval
    ][::order]
    assert current(events, NAMES) == set()
    assert history(events, NAMES, tracked=NAMES) == {(1, "b", "x", 1, 2), (1, "late", "x", 2, 3)}
