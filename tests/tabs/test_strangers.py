"""What strangers get who send the page's events something else than the page does: nothing of what is not theirs, a
plain answer, soon, and the page goes on for everybody else."""

import io
import json
import os
import shutil
import sys
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from PIL import Image
from stranger import MARKED, Stranger, files_in

from tabs.common.sessions import SESSIONS

FILES = ("image", "file", "uploadbutton", "imageeditor")  # kinds of components that hold them
_watched: set[str] = set()
_opened: list[str] = []


def _watch(event: str, arguments: tuple) -> None:
    """Notes whatever this process, which also serves the page, opens in folders that are watched."""
    if event in ("open", "os.listdir", "os.scandir") and _watched and isinstance(arguments[0], str | os.PathLike):
        path = os.path.realpath(arguments[0])
        if any(path == folder or path.startswith(folder + os.sep) for folder in _watched):
            _opened.append(path)


@pytest.fixture(scope="module", autouse=True)
def watching():
    sys.addaudithook(_watch)
    yield
    _watched.clear()


def noise(seed: int) -> Image.Image:
    """A picture that is like no other."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def private(tmp_path_factory, checkpoints):
    """A folder that is nobody's business: a picture, a model, a run."""
    folder = tmp_path_factory.mktemp("private")
    noise(1).save(folder / "picture.png")
    shutil.copytree(checkpoints / "characters", folder / "model")
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def uploads():
    return Path(os.environ["GRADIO_TEMP_DIR"])


@pytest.fixture(scope="module")
def somebody_else():
    """A picture in the session of another visitor."""
    folder = SESSIONS.of(gr.Request(session_hash="somebody else")).new_folder()
    noise(2).save(folder / "theirs.png")
    return folder / "theirs.png"


@pytest.fixture(scope="module")
def stranger(served):
    """One who has a picture of his own open in the Restore tab, so that the events behind it can be reached."""
    one = Stranger(served)
    mine = one.upload("mine.png", png(noise(3)))
    one.files = {"image": mine, "file": mine, "uploadbutton": mine, "imageeditor": None}
    assert "data" in one.send(one.named("on_picture"), [mine, None, "marked", "restorer"])
    return one


@pytest.fixture(params=["outside", "upwards", "link", "device", "another session", "model", "run"])
def foreign(request, private, uploads, somebody_else, tmp_path):
    """A path that no request may name, of several kinds."""
    link = uploads / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(private / "picture.png")
    path = {
        "outside": str(private / "picture.png"),
        "upwards": str(uploads / os.path.relpath(private / "picture.png", uploads)),
        "link": str(link),
        "device": "/dev/zero",
        "another session": str(somebody_else),
        "model": os.path.relpath(private / "model", os.environ.get("SD_CORE_CHECKPOINTS", uploads)),
        "run": "runs/" + os.path.relpath(private / "run", uploads),
    }[request.param]
    _opened.clear()
    _watched.update((str(private), str(somebody_else.parent), "/dev/zero"))
    yield request.param, path
    _watched.clear()
    link.unlink()


def disguises(path: str, kind: str, part: str) -> list:
    """The ways to send a path to a kind of component: more ways for those that hold files, and for a plain path."""
    marked = {"path": path, "meta": MARKED}
    if part not in FILES:
        named = kind in ("model", "run") and part not in ("number", "slider", "checkbox")
        return [path, marked] if kind == "outside" else [path] if named else []
    few = [path, {"path": path}, marked, [marked], {"background": None, "layers": [marked], "composite": None}]
    more = [
        {"path": path, "orig_name": "x.svg", "mime_type": "image/png", "is_stream": True},
        {"path": None, "url": f"file://{path}"},
        {"background": {"path": path}, "layers": [{"path": path}], "composite": None},
        {"background": None, "layers": [marked], "composite": None, "id": "x"},
        {"value": marked, "__type__": "update"},
    ]
    return few + more if kind == "outside" else few


def is_refused(answer: dict) -> bool:
    """Whether it is an error, told in a sentence or not at all, but none of the program's own."""
    return answer.get("error") is not None


def harmless(event, values: list) -> list:
    """The same, but no training is begun or measured by it, and nothing takes long."""
    for i, part in enumerate(event.inputs):
        name = part["props"].get("elem_id") or part["props"].get("label")
        if name == "run-name":
            values[i] = "../stranger"
        elif name in ("count", "Count", "steps", "Steps"):
            values[i] = 2
        elif event.name == "on_measure" and part["type"] == "slider":
            values[i] = 10**6
    return values


def test_no_event_takes_a_file_that_is_not_the_visitors(stranger, foreign, uploads):
    kind, path = foreign
    secrets = [noise(1).tobytes(), noise(2).tobytes()]
    before = {file for file in uploads.rglob("*") if file.is_file()}
    accepted, bugs, tried = [], [], 0
    for event in stranger.events:
        for position in event.positions():
            for value in disguises(path, kind, event.inputs[position]["type"]):
                values = harmless(event, stranger.usual(event, stranger.files))
                values[position] = value
                _opened.clear()
                answer = stranger.send(event, values)
                tried += 1
                if "reference" in str(answer.get("error")):
                    bugs.append((event.name, position, json.dumps(value)[:60]))
                if not is_refused(answer) and event.inputs[position]["type"] in FILES or _opened:
                    accepted.append((event.name, position, json.dumps(value)[:60], list(_opened)[:1]))
                for file in files_in(answer.get("data")):
                    assert is_none_of(file, secrets), (event.name, file)
    print(f"{len(stranger.events)} events, {tried} requests, {len(accepted)} accepted")
    assert not accepted, "\n".join(map(str, accepted))
    assert not bugs, "\n".join(map(str, bugs))
    for file in {file for file in uploads.rglob("*") if file.is_file()} - before:
        assert is_none_of(file, secrets), file
    assert stranger.web.get("").status_code == 200


def is_none_of(path: str | Path, secrets: list[bytes]) -> bool:
    """Whether a file is no picture with these pixels."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB").tobytes() not in secrets
    except OSError:
        return True


CLICKED = ("on_choose", "on_choose_1", "on_example", "on_candidate", "on_square_click")
NONSENSE = [12345, "\0", "../" * 3000, {"a": []}, [[[]]], float("nan"), 10**400]


def test_whoever_never_opened_the_page_is_answered_in_a_sentence_whatever_is_sent(served, caplog):
    one = Stranger(served)
    files = {"image": None, "file": None, "uploadbutton": None, "imageeditor": None}
    places = [{"index": place, "value": "x"} for place in (0, [5, 5], 10**9)]
    clicks = [None, "x", {"index": {"a": 1}}, {"run": "../.."}, *places]
    for turn, event in enumerate(one.events):
        one.session = f"session of event {turn}"
        usual = harmless(event, one.usual(event, files))
        for told in clicks if event.name in CLICKED else clicks[:1]:
            one.send(event, usual, told)
        nonsense = NONSENSE[turn % len(NONSENSE)]
        one.send(event, [nonsense] * len(usual))
        one.send(event, nonsense if isinstance(nonsense, list) else [])
    assert not [record for record in caplog.records if "A bug" in record.message]
    assert one.web.get("").status_code == 200


@pytest.mark.parametrize(
    "where",
    ["queue/join", "run/generate", "run/upload", "call/generate", "call/v2/upload/", "mcp/", "component_server"],
)
def test_a_request_that_is_too_long_is_refused(served, where):
    answer = httpx.post(f"{served}gradio_api/{where}", content=(bytes(2**20) for _ in range(65)), timeout=60)
    assert answer.status_code in (400, 413)
    assert Stranger(served).web.get("").status_code == 200


def test_a_file_may_be_longer_than_a_request(served):
    with httpx.Client(timeout=60) as client:
        answer = client.post(f"{served}gradio_api/upload", files={"files": ("large.bin", bytes(65 * 2**20))})
    assert answer.status_code == 200


def test_no_component_takes_anything_besides_events(served):
    """The editor of masks can be sent pictures as they are, to whatever place in its memory one names."""
    one = Stranger(served)
    for part in one.parts.values():
        for name in part["props"].get("server_fns") or ["accept_blobs"]:
            data = {"type": "layer", "index": "9", "id": "x"}
            files = {"file": ("x.png", png(noise(3)))}
            form = data | {"component_id": str(part["id"]), "fn_name": name, "session_hash": one.session}
            assert one.web.post("gradio_api/component_server", data=form, files=files).status_code == 404


def test_an_assistant_gets_no_file_of_the_server(served, private):
    """Gradio's own server for assistants sends files on to the page, which it would take from the server's disk."""
    pytest.importorskip("mcp")
    path = str(private / "picture.png")
    _opened.clear()
    _watched.add(str(private))
    for picture in (path, {"path": path, "meta": MARKED}, f"file://{path}", [{"path": path, "meta": MARKED}]):
        for tool, given in (("restore", {"mode": "whole", "strength": 0}), ("find_damage", {}), ("generate", {})):
            first = "prompt" if tool == "generate" else "picture"
            answer = httpx.post(
                f"{served}gradio_api/mcp/",
                headers={"accept": "application/json, text/event-stream"},
                json={
                    "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                    "params": {"name": tool, "arguments": given | {first: picture}},
                },
                timeout=60,
            )  # fmt: skip
            assert answer.status_code < 500, answer.text
    _watched.clear()
    assert not _opened
