"""Work in a thread while the next item is fetched."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tidemark.ahead import one_ahead


def test_what_is_made_comes_in_the_items_order() -> None:
    assert list(one_ahead(str, range(100))) == [str(i) for i in range(100)]
    assert list(one_ahead(str, [])) == []


def test_an_item_is_worked_on_while_the_next_one_is_fetched() -> None:
    fetched = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        fetched.set()
        yield 2

    assert list(one_ahead(lambda item: (item, fetched.wait(30)), items())) == [(1, True), (2, True)]


def test_at_most_two_items_are_held() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10):
            taken.append(item)
            yield item

    made = one_ahead(str, items())
    next(made)
    assert taken == [0, 1]


def test_an_error_of_either_side_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        list(one_ahead(str, items()))
    with pytest.raises(ZeroDivisionError):
        list(one_ahead(lambda item: 1 // item, [1, 0, 2]))
