"""metrics.jsonl: torn lines are left out, what came after a save is cut off, a million lines take a moment."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sd_core.runs import metrics_log

TORN = (b'{"step": 9', b"17\n", b"\xff\xfe\n", b"null\n", b'{"loss": 1}\n', b"\n", b'{"step": "3"}\n')


def line(step: int) -> bytes:
    return json.dumps({"step": step, "loss": 1 / step, "learning_rate": 0.003}).encode() + b"\n"


@pytest.fixture(scope="module")
def million(tmp_path_factory):
    file = tmp_path_factory.mktemp("long") / "metrics.jsonl"
    with open(file, "wb") as opened:
        for step in range(1, 1_000_001):
            opened.write(b'{"step": %d, "loss": 0.5, "learning_rate": 0.003, "seconds": 1.0}\n' % step)
    return file


def test_no_file_is_no_lines(tmp_path):
    assert metrics_log.read(tmp_path / "metrics.jsonl", 100) == []
    metrics_log.cut(tmp_path / "metrics.jsonl", 5)


@given(
    steps=st.lists(st.integers(1, 20), max_size=30),
    torn=st.dictionaries(st.integers(0, 30), st.sampled_from(TORN), max_size=5),
    end=st.sampled_from((b"", *TORN)),
    saved=st.integers(0, 40),
)
def test_what_was_logged_after_a_save_is_cut_off_and_the_rest_kept(tmp_path_factory, steps, torn, end, saved):
    file = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    steps = [sum(steps[: i + 1]) for i in range(len(steps))]
    whole = [torn.get(i, b"").removesuffix(b'{"step": 9') + line(step) for i, step in enumerate(steps)]
    file.write_bytes(b"".join(whole) + end)
    metrics_log.cut(file, saved)
    assert [values["step"] for values in metrics_log.read(file)] == [step for step in steps if step <= saved]
    assert file.read_bytes()[-1:] in (b"", b"\n"), "the next line begins on a line of its own"


@given(count=st.integers(0, 300), most=st.integers(1, 50))
def test_thinned_lines_are_in_order_and_end_with_the_last(tmp_path_factory, count, most):
    file = tmp_path_factory.mktemp("thin") / "metrics.jsonl"
    file.write_bytes(b"".join(map(line, range(1, count + 1))))
    with pytest.MonkeyPatch.context() as patch:
        for whole in (0, 1 << 20):  # by seeking, and by reading it whole
            patch.setattr(metrics_log, "READ_WHOLE", whole)
            steps = [values["step"] for values in metrics_log.read(file, most)]
            assert steps == sorted(set(steps)) and len(steps) <= most + 1
            assert not count or steps[-1] == count


def test_a_torn_line_in_a_long_file_hinders_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_log, "READ_WHOLE", 0)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"".join(line(step) for step in range(1, 500)) + b'{"step": 50' + line(501) + b'{"step": 502, "lo')
    assert metrics_log.read(file, 50)[-1]["step"] == 499


class Counted:
    """An open file that counts the bytes that are read from it."""

    bytes_read = 0

    def __init__(self, *args, **options):
        self.file = open(*args, **options)

    def __getattr__(self, name: str):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def read(self, size: int = -1) -> bytes:
        found = self.file.read(size)
        Counted.bytes_read += len(found)
        return found


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(metrics_log, "open", Counted, raising=False)
    monkeypatch.setattr(Counted, "bytes_read", 0)
    return Counted


def test_of_a_million_lines_few_are_read_for_a_chart(million, counted):
    lines = metrics_log.read(million, 2000)
    steps = [values["step"] for values in lines]
    assert steps[0] == 1 and steps[-1] == 1_000_000
    assert max(b - a for a, b in zip(steps, steps[1:], strict=False)) < 1000
    assert 0 < counted.bytes_read < million.stat().st_size / 5


def test_a_million_lines_are_cut_without_reading_them(million, tmp_path, counted):
    copy = tmp_path / "metrics.jsonl"
    copy.write_bytes(million.read_bytes())
    metrics_log.cut(copy, 999_500)
    assert 0 < counted.bytes_read < million.stat().st_size / 100
    assert metrics_log.read(copy, 10)[-1]["step"] == 999_500
