"""Form parts that several tabs share."""

import pytest

from tabs.common.forms import offering


@pytest.mark.parametrize(("chosen", "value"), [("b", None), ("gone", "a"), (None, "a")])
def test_a_picker_with_other_choices_keeps_what_is_chosen_unless_that_has_gone(chosen, value):
    update = offering([("A", "a"), ("B", "b")], chosen, otherwise="a").constructor_args
    assert update["choices"] == [("A", "a"), ("B", "b")]
    assert update.get("value") == value and ("value" in update) == (value is not None)
