"""The table of drop reasons: complete, and numbers it does not know stay numbers."""

from __future__ import annotations

import pytest

from analyzer.drops.reasons import REASONS, DropClass, Weight, reason
from analyzer.settle import POLICY_DROPS

GAPS = {159, 206}
"""Numbers between the first and the last that Hubble's enum leaves out."""


def test_every_number_of_the_enum_is_in_the_table() -> None:
    assert set(REASONS) == set(range(130, 208)) - GAPS
    assert all(number == row.number for number, row in REASONS.items())


@pytest.mark.parametrize("row", REASONS.values(), ids=lambda row: row.name)
def test_every_row_says_what_it_means_what_is_seen_and_what_to_do(row: object) -> None:
    assert isinstance(row, tuple)
    assert all(isinstance(text, str) and text and text[0] not in " ." and text[-1] != "." for text in row[3:])


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (133, DropClass.DEFAULT_DENY),
        (181, DropClass.EXPLICIT_DENY),
        (189, DropClass.AUTHENTICATION),
        (177, DropClass.LB_SOURCE_RANGE),
        (151, DropClass.TRANSIENT),
        (203, DropClass.TRANSIENT),
        (155, DropClass.INFRASTRUCTURE),
        (157, DropClass.INFRASTRUCTURE),
        (158, DropClass.INFRASTRUCTURE),
        (160, DropClass.INFRASTRUCTURE),
        (167, DropClass.INFRASTRUCTURE),
    ],
)
def test_classes(number: int, kind: DropClass) -> None:
    assert reason(number).kind is kind


def test_only_what_a_rule_can_help_is_allowable() -> None:
    assert {row.number for row in REASONS.values() if row.kind.allowable} == {133}
    assert DropClass.L7.allowable
    assert {number for number, row in REASONS.items() if row.kind.weight is Weight.POLICY} == {*POLICY_DROPS, 177}


@pytest.mark.parametrize("number", [0, 1, 129, 159, 206, 208, 4_294_967_295])
def test_unknown_numbers_stay_numbers(number: int) -> None:
    found = reason(number)
    assert found.kind is DropClass.UNKNOWN
    assert not found.kind.allowable
    assert found.number == number
    assert str(number) in found.name or not number
