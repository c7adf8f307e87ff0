"""The chart: curves within their frame, on either scale, whatever their values and names."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tabs.train.chart import Curve, line_chart


def test_a_chart_without_points_is_none():
    assert line_chart([Curve("a", [], [], "red"), Curve("b", [1], [float("nan")], "red")], "Loss", False) == ""
    assert line_chart([Curve("a", [1], [0.0], "red")], "Loss", True) == "", "zero has no logarithm"


def test_a_logarithmic_chart_is_labelled_with_losses():
    text = line_chart([Curve("a", [1, 10, 100], [1.5, 0.4, 0.04], "red")], "Loss", True)
    assert ">0.1</span>" in text and ">1</span>" in text and text.count("<polyline") == 1


@given(
    values=st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20),
    logarithmic=st.booleans(),
)
def test_every_curve_can_be_drawn_within_its_frame(values, logarithmic):
    text = line_chart([Curve("a", range(1, len(values) + 1), values, "red")], "Loss", logarithmic)
    for line in re.findall(r'points="([^"]+)"', text):
        for point in line.split():
            assert all(-1 <= float(number) <= 1001 for number in point.split(","))
    assert "nan" not in text


def test_names_in_a_chart_are_text():
    assert "<b>x" not in line_chart([Curve("<b>x", [1, 2], [1, 2], "red")], "Loss", False)
