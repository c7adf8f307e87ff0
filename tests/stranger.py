"""A stranger: whoever sends requests to the page without opening it. He knows what it tells anybody in `/config`."""

import itertools
import json
import secrets
from dataclasses import dataclass, field

import httpx

MARKED = {"_type": "gradio.FileData"}
SECONDS = 60  # a slow machine is no failure; what reads without end is


@dataclass(frozen=True)
class Event:
    """An event of the page: its number, its name, and the components that its inputs come from."""

    number: int
    name: str
    inputs: tuple[dict, ...]
    streams: bool
    visible: bool

    def positions(self) -> list[int]:
        """The inputs that come from whoever sends a request: all but those that the server keeps."""
        return [i for i, part in enumerate(self.inputs) if part["type"] != "state"]


@dataclass
class Stranger:
    """One that holds a session of his own.

    Args:
        address: of the page.
    """

    address: str
    session: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self):
        self.web = httpx.Client(base_url=self.address, timeout=SECONDS)
        config = self.web.get("config").json()
        parts = {part["id"]: part for part in config["components"]}
        self.parts = {part["props"].get("elem_id"): part for part in parts.values()}
        self.events = [
            Event(
                each["id"],
                each["api_name"] or f"event {each['id']}",
                tuple(parts[i] for i in each["inputs"]),
                bool(each["types"]["generator"]),
                each["api_visibility"] == "public",
            )
            for each in config["dependencies"]
            if each["backend_fn"] and not each["cancels"]
        ]

    def named(self, name: str) -> Event:
        return next(event for event in self.events if event.name == name)

    def upload(self, name: str, content: bytes) -> dict:
        """The file as the page itself would send it on."""
        (path,) = self.web.post("gradio_api/upload", files={"files": (name, content)}).json()
        return {"path": path, "orig_name": name, "meta": MARKED}

    def send(self, event: Event, values: list, told: object = None) -> dict:
        """What an event answers: {"data": ...}, or {"error": ...}."""
        body = {"data": values, "fn_index": event.number, "session_hash": self.session, "event_data": told}
        if event.streams:
            return self._queued(body)
        answer = self._post("gradio_api/run/any", body)
        return answer.json() if answer.status_code == 200 else {"error": answer.text}

    def _post(self, where: str, body: dict) -> httpx.Response:
        """Sends it as JSON of Python's kind, which knows NaN."""
        return self.web.post(where, content=json.dumps(body), headers={"content-type": "application/json"})

    def _queued(self, body: dict) -> dict:
        joined = self._post("gradio_api/queue/join", body)
        if joined.status_code != 200:
            return {"error": joined.text}
        number, told = joined.json()["event_id"], []
        with self.web.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("event_id") != number:
                    continue
                told.append(message.get("output"))
                if message["msg"] == "process_completed":
                    break
        return {"data": told} if message["success"] else {"error": json.dumps(message["output"])}

    def usual(self, event: Event, files: dict[str, object]) -> list:
        """What the page would send, if nobody had changed anything but the files."""
        values = []
        for part in event.inputs:
            kind, value = part["type"], part["props"].get("value")
            if kind in files:
                several = part["props"].get("file_count") == "multiple"
                value = [files[kind]] if several else files[kind]
            elif kind == "state":
                value = None
            elif kind == "dataset":
                value = 0
            values.append(value)
        return values


def files_in(answer: object) -> set[str]:
    """The paths of all files that an answer names."""
    if isinstance(answer, dict):
        own = {answer["path"]} if isinstance(answer.get("path"), str) else set()
        return own.union(*map(files_in, answer.values()))
    if isinstance(answer, list):
        return set(itertools.chain.from_iterable(map(files_in, answer)))
    return set()
