"""The nearest valid name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import takewhile


def nearest(name: str, allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the allowed names that `name` was most likely meant to be; empty if none is near.

    Every name at one edit (or another case) is returned: which of them was meant can't be told.
    difflib alone would miss short names, since one edit in ``to`` already is half of the name.
    """
    names = sorted(set(allowed))
    near = tuple(n for n in names if _one_edit(name.casefold(), n.casefold()))
    return near or tuple(difflib.get_close_matches(name, names, n=1))


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ``; did you mean 'a' or 'b'?``, or nothing if no allowed name is near."""
    near = " or ".join(repr(n) for n in nearest(name, allowed))
    return f"; did you mean {near}?" if near else ""


def _one_edit(a: str, b: str) -> bool:
    """Tell whether one insertion, deletion, replacement or swap turns `a` into `b`."""
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    rest_a, rest_b = a[start:], b[start:]
    return (
        rest_a == rest_b
        or rest_a[1:] in (rest_b, rest_b[1:])
        or rest_a == rest_b[1:]
        or (rest_a[:2] == rest_b[:2][::-1] and rest_a[2:] == rest_b[2:])
    )
