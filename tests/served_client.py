"""A program's way to the page."""

from gradio_client import Client

SECONDS = 120  # a busy machine may take long to answer


def connected(address: str) -> Client:
    return Client(address, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": SECONDS})
