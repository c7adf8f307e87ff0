"""What the app remembers of each visitor: a folder for their pictures, what they asked for last, the last batch, and
the job under way.

Kept here and not in `gr.State`, which outlives a closed page by an hour: it is dropped when a page closes, and the
oldest ones that have no job under way when there are many. A program's visit is one job long.
"""

import itertools
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.generation.trajectory import Trajectory
from tabs.common.jobs import Stream

MAX_FILM_BYTES = 192_000_000  # of all visitors together
MAX_SESSIONS = 64
PREVIEWS, PREVIEW_QUALITY = 16, 90  # files on disk per visitor; JPEG
GRACE_SECONDS = 600  # a phone that was locked for a moment finds its pictures again


@dataclass(frozen=True)
class Caller:
    """Who one job of a program is for: what sessions and words need to know of a `gr.Request`."""

    session_hash: str
    headers: Mapping[str, str]


Visitor = gr.Request | Caller


@dataclass
class Batch:
    """Finished pictures: the model and request they answer, what each started from, and their files."""

    model: str
    request: GenerationRequest
    noises: list[Noise]
    paths: list[Path] = field(default_factory=list)


@dataclass
class Session:
    """One open page, or one job of a program. `asked` is the request begun last, `batch` what was finished last."""

    folder: Path
    trajectory: Trajectory = field(default_factory=Trajectory)
    asked: GenerationRequest | None = None
    batch: Batch | None = None
    chosen: int = 0
    stream: Stream | None = None
    left: float | None = None
    _previews: Iterator[int] = field(default_factory=itertools.count)

    def new_folder(self) -> Path:
        """A fresh folder for one batch. Earlier ones stay, since a gallery may still show them."""
        self._keep_folder()
        return Path(tempfile.mkdtemp(prefix="batch-", dir=self.folder))

    def preview(self, picture: Image.Image) -> Path:
        """Writes a preview for the page, which copies it. (A picture that Gradio itself writes goes over an equal one
        that it may be serving at that moment.)"""
        self._keep_folder()
        path = self.folder / f"preview-{next(self._previews) % PREVIEWS}.jpg"
        picture.save(path, quality=PREVIEW_QUALITY)
        return path

    def _keep_folder(self) -> None:
        """Makes the folder again if the system has tidied it away while the page stood open."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def busy(self) -> bool:
        """Whether a job is under way, or waits for its turn."""
        return self.stream is not None and self.stream.running

    def start(self, stream: Stream) -> Stream:
        """Notes the job under way, ending the one before it."""
        self.stop()
        self.stream = stream
        return stream

    def stop(self) -> None:
        if self.stream:
            self.stream.stop()

    def abandon(self) -> None:
        """Ends the job under way, which was for something that is no longer on the page."""
        if self.stream:
            self.stream.abandon()


class Sessions:
    """Everybody's session, by Gradio's session hash.

    Args:
        most: sessions; more push out the longest unused of those that do nothing.
        film_bytes: of all films together.
        grace_seconds: how long a session is kept after its page was closed.
    """

    def __init__(
        self, most: int = MAX_SESSIONS, film_bytes: int = MAX_FILM_BYTES, grace_seconds: float = GRACE_SECONDS
    ):
        self._most, self._film_bytes, self._grace_seconds = most, film_bytes, grace_seconds
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: Visitor | None) -> Session:
        """The visitor's session."""
        key = getattr(request, "session_hash", None) or "nobody"
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(Path(tempfile.mkdtemp(prefix="sd-pictures-")))
            session = self._sessions[key]
            session.left = None
            self._sessions.move_to_end(key)
            self._tidy()
            return session

    def folder_of(self, request: Visitor | None) -> Path | None:
        """The folder of a visitor who has a session of his own; None for anybody else."""
        session = self._sessions.get(getattr(request, "session_hash", None) or "")
        return session and session.folder

    @contextmanager
    def call(self, request: gr.Request | None) -> Iterator[Caller]:
        """A visitor who stays for one job, which ends, and whose files go, with the context.

        A program may ask for several things at a time, and all who come by MCP share one of Gradio's sessions, so none
        of these jobs may end another.
        """
        caller = Caller(secrets.token_hex(16), getattr(request, "headers", None) or {})
        try:
            yield caller
        finally:
            with self._lock:
                self._drop(caller.session_hash)

    def leave(self, request: gr.Request) -> None:
        """The page was closed: its job ends, and the rest is forgotten after a while."""
        with self._lock:
            if session := self._sessions.get(request.session_hash):
                session.stop()
                session.left = time.monotonic()
            self._tidy()

    def _tidy(self) -> None:
        now = time.monotonic()
        gone = [k for k, s in self._sessions.items() if s.left is not None and now - s.left > self._grace_seconds]
        idle = [k for k, s in list(self._sessions.items())[:-1] if k not in gone and not s.busy]
        gone += idle[: max(0, len(self._sessions) - len(gone) - self._most)]
        for key in gone:
            self._drop(key)
        self._drop_films()

    def _drop(self, key: str) -> None:
        if session := self._sessions.pop(key, None):
            session.stop()
            shutil.rmtree(session.folder, ignore_errors=True)

    def _drop_films(self) -> None:
        """Forgets the longest unused films while all together are too large; never the newest."""
        total = sum(session.trajectory.bytes for session in self._sessions.values())
        for session in list(self._sessions.values())[:-1]:
            if total <= self._film_bytes:
                return
            total -= session.trajectory.bytes
            session.trajectory = Trajectory()

    def close(self) -> None:
        """Removes everybody's pictures, when the app ends."""
        with self._lock:
            for key in list(self._sessions):
                self._drop(key)


SESSIONS = Sessions()


def stop_job(request: gr.Request) -> None:
    """What a "stop" button does."""
    SESSIONS.of(request).stop()
