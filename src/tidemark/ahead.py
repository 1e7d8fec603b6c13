"""Work on one item in a thread while the next one is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Give ``make(item)`` of each item, in their order; memory holds two items, and what they made.

    The items are fetched by the caller's thread, one at a time; `make` runs in another one.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Made] | None = None
        for item in items:
            making = pool.submit(make, item)
            if waiting is not None:
                yield waiting.result()
            waiting = making
        if waiting is not None:
            yield waiting.result()
