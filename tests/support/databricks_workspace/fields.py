"""What a request may hold: each endpoint's fields and their types, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def refuse(message: str) -> ApiError:
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> ApiError:
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def checked(body: Mapping[str, Any], fields: Mapping[str, type], *required: str) -> dict[str, Any]:
    """Give a request's fields with their types; text from an address is read as what it should be.

    Raises:
        ApiError: With status 400.
    """
    for name in body:
        if name not in fields:
            raise refuse(f"unknown field: {name}")
    for name in required:
        if name not in body:
            raise refuse(f"missing required field: {name}")
    return {name: _typed(name, value, fields[name]) for name, value in body.items()}


def _typed(name: str, value: Any, wanted: type) -> Any:
    if wanted is bool and isinstance(value, str) and value.lower() in {"true", "false"}:
        return value == "true"  # of an address; `True` is not understood, and passed over
    if wanted is int and isinstance(value, str) and value.isdigit():
        return int(value)  # the service reads a number from text too
    if (wanted is int and isinstance(value, bool)) or not isinstance(value, wanted):
        raise refuse(f"{name}: expected {wanted.__name__}, got {value!r}")
    return value
