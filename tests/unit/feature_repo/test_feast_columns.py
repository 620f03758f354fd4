"""Columns of stored values read at once are what each message says by itself, and what protobuf reads."""

from __future__ import annotations

import numpy as np
import pytest
from feast.protos.feast.types.Value_pb2 import FloatList, Value
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import CorruptValue
from feature_repo.feast_columns import bytes_values, decode_values, float_lists, int64_values
from feature_repo.feast_format import decode_value, encode_bytes_value, encode_int64_value

INT64 = st.integers(-(2**63), 2**63 - 1)
SIZE = 3


def messages() -> st.SearchStrategy[list[bytes | None]]:
    """What may stand in a field: nothing, null, a value of each type that views use, or damage."""
    values = st.one_of(
        st.builds(lambda v: Value(bytes_val=v), st.binary(max_size=300)),
        st.builds(lambda v: Value(int64_val=v), INT64),
        st.builds(lambda v: Value(double_val=v), st.floats()),
        st.builds(lambda v: Value(float_list_val=FloatList(val=v)), st.lists(st.floats(width=32), max_size=SIZE + 1)),
        st.just(Value()),
        st.just(Value(null_val=0)),
    ).map(lambda value: value.SerializeToString())
    damaged = values.map(lambda message: message[:-1])
    return st.lists(st.one_of(st.none(), values, damaged, st.binary(max_size=15)), max_size=6)


def one_by_one(column: list[bytes | None]) -> tuple[list[object], int]:
    """Each message by itself, None for one that cannot be read, and how many those are."""
    values: list[object] = []
    corrupt = 0
    for message in column:
        try:
            values.append(decode_value(message))
        except CorruptValue:
            values.append(None)
            corrupt += 1
    return values, corrupt


class Reports(list[object]):
    def __call__(self, what: str, problem: object) -> None:
        self.append((what, problem))


@given(messages())
def test_a_column_of_bytes_is_each_message(column: list[bytes | None]) -> None:
    values, corrupt = one_by_one(column)
    reports = Reports()
    assert bytes_values(column, reports) == [v if isinstance(v, bytes) else None for v in values]
    assert len(reports) == corrupt


@given(messages())
def test_a_column_of_integers_is_each_message(column: list[bytes | None]) -> None:
    values, corrupt = one_by_one(column)
    reports = Reports()
    absent = list(range(-7, len(column) - 7))
    found = int64_values(column, absent, reports)
    assert found.tolist() == [v if isinstance(v, int) else a for v, a in zip(values, absent, strict=True)]
    assert len(reports) == corrupt


@given(messages())
def test_a_column_of_lists_is_each_message(column: list[bytes | None]) -> None:
    values, corrupt = one_by_one(column)
    reports = Reports()
    lists, known = float_lists(column, SIZE, reports)
    assert known.tolist() == [isinstance(v, np.ndarray) and len(v) == SIZE for v in values]
    for value, found, ok in zip(values, lists, known, strict=True):
        np.testing.assert_array_equal(found, value if ok else np.zeros(SIZE))
    assert len(reports) == corrupt


@given(messages())
def test_a_column_of_any_type_is_each_message(column: list[bytes | None]) -> None:
    values, corrupt = one_by_one(column)
    reports = Reports()
    for value, found in zip(values, decode_values(column, reports), strict=True):
        np.testing.assert_equal(found, value)
    assert len(reports) == corrupt


@given(st.lists(st.one_of(st.none(), INT64), min_size=1, max_size=8))
def test_integers_are_protobufs(numbers: list[int | None]) -> None:
    column = [None if n is None else Value(int64_val=n).SerializeToString() for n in numbers]
    assert column == [None if n is None else encode_int64_value(n) for n in numbers]
    assert int64_values(column, [-1] * len(column), Reports()).tolist() == [-1 if n is None else n for n in numbers]


@pytest.mark.parametrize("message", [b"\x20" + b"\xff" * 9 + bytes([last]) for last in (0, 1, 2, 0x7E, 0x7F)])
def test_an_integer_of_more_than_64_bits_is_cut_as_protobuf_cuts_it(message: bytes) -> None:
    theirs = Value.FromString(message).int64_val
    assert decode_value(message) == theirs
    assert int64_values([message, None], [0, 0], Reports()).tolist() == [theirs, 0]


def test_what_is_as_long_as_a_list_is_no_list_for_that() -> None:
    vector = Value(float_list_val=FloatList(val=[1.0] * 16)).SerializeToString()
    imposter = Value(bytes_val=bytes(len(vector) - 2)).SerializeToString()
    lists, known = float_lists([vector, imposter, None], 16, Reports())
    assert len(imposter) == len(vector)
    assert known.tolist() == [True, False, False]
    assert lists.sum(axis=1).tolist() == [16.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 130, 16_383, 16_384, 2**21])
def test_bytes_of_every_length_class_are_protobufs(size: int) -> None:
    message = Value(bytes_val=bytes(size)).SerializeToString()
    assert message == encode_bytes_value(bytes(size))
    assert bytes_values([message, message[:-1], None], Reports()) == [bytes(size), None, None]
