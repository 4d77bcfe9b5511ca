"""Forms: equal ones are one object, as long as they are kept; and what may be kept."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.model.flow import Detail, Form, KeptForm
from analyzer.sources import forms
from analyzer.sources.forms import LONGEST, Forms
from tests.flows import pod, tcp

CART, REDIS = pod("cart"), pod("redis")
VALUES: tuple[Any, ...] = tuple(tcp(CART, REDIS, 80).form)


def changed(field: str, value: object) -> tuple[Any, ...]:
    return tuple(Form(*VALUES)._replace(**{field: value}))


def test_equal_forms_are_one_object() -> None:
    kept = Forms()
    first = kept.of(VALUES, 100)
    assert first == Form(*VALUES)
    assert isinstance(first, KeptForm)
    assert kept.of(VALUES[:1] + VALUES[1:], 100) is first


@pytest.mark.parametrize("field", Form._fields)
def test_forms_that_differ_in_anything_are_two(field: str) -> None:
    others = {"source": REDIS, "destination": CART, "protocol": None, "is_reply": None, "detail": Detail(l7_type=1)}
    other = changed(field, others.get(field, 99))
    kept = Forms()
    for values in (VALUES, other, VALUES, other):
        assert kept.of(values, 100) == Form(*values)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        (VALUES, LONGEST + 1),
        (changed("weight", 2), 100),
        (changed("aggregated", True), 100),
        (changed("detail", Detail(policy_match_type=1)), 100),
    ],
)
def test_what_is_long_or_varies_too_much_is_not_kept(values: tuple[Any, ...], size: int) -> None:
    made = Forms().of(values, size)
    assert made == Form(*values)
    assert type(made) is Form


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_ROOM", 10)
    kept = Forms()
    for number in range(100):
        assert kept.of(changed("sub_type", number), 100).sub_type == number
        assert len(kept._kept) <= 10


def test_another_endpoint_at_the_same_place_is_another_form() -> None:
    """Endpoints count by their `id`; the form that is kept keeps its own from being given to others."""
    kept = Forms()
    for number in range(200):
        values = changed("source", CART._replace(identity=number))
        assert kept.of(values, 100).source.identity == number
        del values
