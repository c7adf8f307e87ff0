"""What becomes of a bug."""

from sd_core.errors import logged


def test_a_bug_is_logged_once_and_has_one_reference_wherever_it_is_told(caplog):
    bug, other = KeyError("lost"), KeyError("lost")
    reference = logged(bug)
    assert logged(bug) == reference != logged(other)
    assert caplog.text.count(reference) == 1 and "lost" in caplog.text
