"""Histograms count as Prometheus does: each bound has all values at or below it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.histogram import BATCH, RUN_SECONDS, SECONDS, Histogram

VALUES = st.lists(st.floats(0, 1e6) | st.sampled_from([*SECONDS, *RUN_SECONDS, *BATCH]))


@given(VALUES, st.sampled_from([SECONDS, RUN_SECONDS, BATCH]))
def test_each_bound_has_all_values_at_or_below_it(values: list[float], bounds: tuple[float, ...]) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    buckets = histogram.buckets()
    assert buckets[-1] == ("+Inf", len(values))
    assert [(float(bound), count) for bound, count in buckets[:-1]] == [
        (bound, sum(value <= bound for value in values)) for bound in bounds
    ]
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))  # since Python 3.12 `sum` is more exact than adding
