"""Refuses requests that are longer than any of the page's, before they are read: Gradio reads them whole."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

MOST_BYTES = 64 * 2**20  # assistants send pictures inside of them
Message = MutableMapping[str, Any]
TOO_LARGE = 413  # of HTTP
UPLOADS = "/gradio_api/upload"  # the address to which files are sent


class LimitedBodies:
    """Middleware of an ASGI application. Gradio limits uploads itself, and writes them to disk."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable) -> None:
        left = MOST_BYTES

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(TOO_LARGE, "This request is too large.")
            return message

        # That address alone: what ends like it may be one of those that are read whole, such as "run/upload".
        free = scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) == UPLOADS
        await self._app(scope, receive if free else limited, send)
