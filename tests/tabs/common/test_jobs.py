import threading
import time

import gradio as gr
import pytest

from tabs.common.jobs import Line, Stream, Waiting, lasting, line_for

PATIENCE = 20  # seconds, for a busy machine


def items(stream):
    return [item for item in stream if not isinstance(item, Waiting)]


def wait_until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Counting:
    """A job that counts to `end`, and notes what became of it."""

    def __init__(self, end=10**9, pause=0.005):
        self.end, self.pause = end, pause
        self.reached, self.closed, self.threads = 0, False, set()

    def __call__(self):
        try:
            for number in range(1, self.end + 1):
                self.reached = number
                self.threads.add(threading.get_ident())
                yield self.reached
                time.sleep(self.pause)
        finally:
            self.closed = True


def test_items_come_in_order_and_the_last_one_always_comes():
    for _ in range(20):
        seen = items(Stream(Counting(50, 0), Line()))
        assert seen == sorted(set(seen)) and seen[-1] == 50


def test_a_slow_page_misses_stale_items_only():
    seen = []
    for item in Stream(Counting(200, 0.001), Line()):
        if not isinstance(item, Waiting):
            seen.append(item)
            time.sleep(0.05)
    assert len(seen) < 100 and seen[-1] == 200


def test_a_job_stays_in_one_thread_of_its_own():
    work = Counting(5)
    items(Stream(work, Line()))
    assert len(work.threads) == 1 and threading.get_ident() not in work.threads


def test_stop_ends_a_job_within_a_step():
    work = Counting()
    stream = Stream(work, Line())
    iterator = iter(stream)
    wait_until(lambda: not isinstance(next(iterator), Waiting))
    stream.stop()
    reached = work.reached
    wait_until(lambda: work.closed)
    assert work.reached <= reached + 1
    assert list(iterator) == [] or work.reached <= reached + 1


def test_closing_the_page_ends_the_job_without_waiting_for_it():
    go_on, closed = threading.Event(), threading.Event()

    def work():
        try:
            yield 1
            go_on.wait(PATIENCE)  # a step that takes long
            yield 2
        finally:
            closed.set()

    iterator = iter(Stream(work, Line()))
    wait_until(lambda: not isinstance(next(iterator), Waiting))
    iterator.close()
    assert not closed.is_set()
    go_on.set()
    assert closed.wait(PATIENCE)


def test_two_jobs_never_work_at_the_same_time():
    line, working, most = Line(), [], []

    def work():
        working.append(1)
        for i in range(10):
            most.append(len(working))
            time.sleep(0.002)
            yield i
        working.pop()

    seen = []
    threads = [threading.Thread(target=lambda: seen.append(items(Stream(work, line))[-1])) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert max(most) == 1 and seen == [9] * 5


def test_waiting_jobs_know_their_place_and_come_in_order():
    line, order = Line(), []
    first = Stream(Counting(), line)

    def named(name):
        def work():
            order.append(name)
            yield name

        return work

    others = [Stream(named(name), line) for name in "abc"]
    assert [next(iter(other)).before for other in others[:1]] == [1]
    assert [line.before(other) for other in others] in ([1, 2, 3], [0, 1, 2], [1, 1, 2])
    first.stop()
    assert [items(other) for other in others[1:]] == [["b"], ["c"]]
    assert order in (["b", "c"], ["a", "b", "c"])


def test_a_job_stopped_while_it_waits_never_begins():
    line = Line()
    first, work = Stream(Counting(), line), Counting()
    second = Stream(work, line)
    second.stop()
    assert items(second) == []
    first.stop()
    assert work.reached == 0


@pytest.mark.parametrize("early", [True, False])
def test_an_error_reaches_the_page_and_frees_the_device(early):
    line = Line()

    def broken():
        if early:
            raise ValueError("Too early.")
        yield 1
        raise ValueError("Too late.")

    with pytest.raises(ValueError, match="Too"):
        items(Stream(broken, line))
    assert items(Stream(Counting(2), line))[-1] == 2


def test_no_thread_is_left_behind():
    before = threading.active_count()
    for _ in range(5):
        items(Stream(Counting(3, 0), Line()))
    wait_until(lambda: threading.active_count() <= before)


def test_each_device_has_one_line():
    assert line_for("cpu") is line_for("cpu") and line_for("cuda:0") is not line_for("cpu")


def test_what_a_handler_did_to_a_component_is_repeated_and_what_it_put_there_is_not():
    with gr.Blocks():
        button, number = gr.Button(), gr.Number()
    hidden, shown = gr.Button(visible=False), gr.Button(visible=True)

    @lasting
    def handler():
        yield {button: hidden, number: 3}
        yield {}
        yield {button: shown}
        yield {number: 4}

    first, *later = handler()
    assert first == {button: hidden, number: 3}
    assert later == [{button: hidden}, {button: shown}, {button: shown, number: 4}]
