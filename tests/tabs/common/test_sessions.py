import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from sd_core.diffusion.sampling import Step
from sd_core.generation.trajectory import Trajectory
from tabs.common.sessions import PREVIEWS, Sessions


def visitor(name):
    return SimpleNamespace(session_hash=name)


@pytest.fixture
def sessions():
    """Makes everybody's sessions, with limits as told."""
    made = []

    def make(**limits):
        made.append(Sessions(**limits))
        return made[-1]

    yield make
    for everybody in made:
        everybody.close()


@pytest.fixture
def everybody(sessions):
    return sessions()


def job(running=True, stop=lambda: None):
    return SimpleNamespace(running=running, stop=stop)


def trajectory():
    trajectory = Trajectory()
    trajectory.add(Step(1, 1, 0.0, torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)))
    return trajectory


def test_each_visitor_has_their_own_session(everybody):
    a, b = everybody.of(visitor("a")), everybody.of(visitor("b"))
    assert a is not b and a.folder != b.folder
    assert everybody.of(visitor("a")) is a


def test_a_closed_page_ends_its_job_and_comes_back_if_it_was_a_phone_locked_for_a_moment(everybody):
    stopped = []
    session = everybody.of(visitor("a"))
    session.start(job(stop=lambda: stopped.append(1)))
    everybody.leave(visitor("a"))
    assert stopped and everybody.of(visitor("a")) is session and session.folder.exists()


def test_a_closed_page_is_forgotten_after_a_while(sessions):
    everybody = sessions(grace_seconds=-1)
    session = everybody.of(visitor("a"))
    everybody.leave(visitor("a"))
    assert not session.folder.exists()
    assert everybody.of(visitor("a")) is not session


def test_a_new_job_ends_the_one_before_it(everybody):
    stopped = []
    session = everybody.of(visitor("a"))
    session.start(job(stop=lambda: stopped.append(1)))
    session.start(job())
    assert stopped == [1]


def test_memory_and_disk_stay_bounded_with_many_visitors(sessions):
    everybody = sessions(most=3, film_bytes=2 * trajectory().bytes)
    everyone = [everybody.of(visitor(str(i))) for i in range(5)]
    assert [s.folder.exists() for s in everyone] == [False, False, True, True, True]
    for i in (2, 3, 4):
        everybody.of(visitor(str(i))).trajectory = trajectory()
    everybody.of(visitor("4"))
    assert [bool(s.trajectory.frames) for s in everyone[2:]] == [False, True, True]


def test_previews_are_few_files(everybody):
    session = everybody.of(visitor("a"))
    paths = {session.preview(Image.new("RGB", (8, 8))) for _ in range(3 * PREVIEWS)}
    assert len(paths) == PREVIEWS and all(path.exists() for path in paths)


def test_a_session_with_a_job_under_way_is_kept_however_old(sessions):
    everybody = sessions(most=2)
    everyone = [everybody.of(visitor(str(i))) for i in range(2)]
    everyone[0].start(job())
    everyone[1].start(job(running=False))
    newcomer = everybody.of(visitor("2"))
    assert [s.folder.exists() for s in (*everyone, newcomer)] == [True, False, True]
    newcomer.start(job())
    latest = everybody.of(visitor("3"))
    assert latest.folder.exists() and everybody.of(visitor("3")) is latest, "nor does it cost a newcomer theirs"


def test_a_folder_that_was_tidied_away_comes_back(everybody):
    session = everybody.of(visitor("a"))
    shutil.rmtree(session.folder)
    assert session.new_folder().is_dir()
    shutil.rmtree(session.folder)
    assert session.preview(Image.new("RGB", (8, 8))).exists()


def test_each_job_of_a_program_is_a_visit_of_its_own_and_leaves_nothing(everybody):
    stopped = []
    program = SimpleNamespace(session_hash="program", headers={"accept-language": "zh"})
    with everybody.call(program) as one, everybody.call(program) as two:
        first, second = everybody.of(one), everybody.of(two)
        first.start(job(stop=lambda: stopped.append(1)))
        second.start(job(stop=lambda: stopped.append(2)))
        assert not stopped and one.headers == program.headers
        assert first.folder != second.folder and everybody.of(one) is first
    assert stopped == [2, 1] and not first.folder.exists() and not second.folder.exists()
