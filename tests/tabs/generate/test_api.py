import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served_client import connected

from sd_core.generation.infotext import read_parameters


@pytest.fixture
def client(served):
    return connected(served)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def files(gallery):
    return [item["image"] if isinstance(item, dict) else item for item in gallery]


def test_only_documented_endpoints_are_public(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/generate", "/image_to_image", "/variations", "/walk", "/models", "/words"} <= set(endpoints)
    assert not [name for name in endpoints if "lambda" in name or "on_" in name]
    names = [p["parameter_name"] for p in endpoints["/generate"]["parameters"]]
    assert names == ["prompt", "negative_prompt", "count", "sampler", "steps", "guidance", "seed", "model"]


def test_models_and_words_are_listed(client):
    assert client.predict(api_name="/models") == ["characters"]
    assert "adventurer" in client.predict(model="", api_name="/words")


def test_generate_gives_pngs_with_their_settings(client):
    paths = files(client.predict(prompt="red hair", count=2, steps=3, seed=5, api_name="/generate"))
    assert len(paths) == 2
    settings = read_parameters(paths[1])
    assert (settings.prompt, settings.seed, settings.steps, settings.model) == ("red hair", 6, 3, "characters")
    assert pixels(paths[1]).shape == (16, 16, 3)
    again = files(client.predict(prompt="red hair", count=1, steps=3, seed=6, api_name="/generate"))
    assert np.abs(pixels(again[0]).astype(int) - pixels(paths[1])).max() <= 1


def test_image_to_image_and_walk(client, tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "start.png")
    start = handle_file(tmp_path / "start.png")
    drawn = client.predict(picture=start, prompt="hair", strength=0.3, count=1, api_name="/image_to_image")
    assert read_parameters(files(drawn)[0]).strength == 0.3
    frames = files(client.predict(prompt="hair", from_seed=1, to_seed=2, frames=5, api_name="/walk"))
    assert len(frames) == 5 and read_parameters(frames[2]).variation_strength == 0.5


SETTINGS = {"negative_prompt": "beard", "sampler": "heun", "steps": 3, "guidance": 4.5}


@pytest.mark.parametrize(
    ("endpoint", "asked"),
    [("image_to_image", {"strength": 1}), ("variations", {"variation_of": "7"}), ("walk", {"frames": 2})],
)
def test_every_way_to_draw_takes_the_same_settings(client, tmp_path, endpoint, asked):
    if endpoint == "image_to_image":
        Image.new("RGB", (20, 20), "red").save(tmp_path / "start.png")
        asked = asked | {"picture": handle_file(tmp_path / "start.png")}
    drawn = files(client.predict(prompt="hair", **asked, **SETTINGS, api_name=f"/{endpoint}"))
    told = read_parameters(drawn[0])
    assert (told.negative_prompt, told.sampler, told.steps, told.guidance) == ("beard", "Heun", 3, 4.5)
    assert read_parameters(files(client.predict(prompt="hair", **asked, api_name=f"/{endpoint}"))[0]).steps == 16


def test_variations_resemble_the_picture_they_vary(client):
    (first,) = files(client.predict(prompt="hair", count=1, steps=3, seed=7, api_name="/generate"))

    def far(strength):
        varied = dict(variation_of="7", prompt="hair", strength=strength, count=2, seed=20, steps=3)
        paths = files(client.predict(**varied, api_name="/variations"))
        assert [read_parameters(path).variation_seed for path in paths] == [20, 21]
        return np.abs(pixels(paths[1]).astype(int) - pixels(first)).mean()

    assert far(0) <= 1 < far(0.2) < far(1)
    with pytest.raises(AppError, match="12 7:0.3"):
        client.predict(variation_of="x", prompt="hair", api_name="/variations")


def test_an_assistant_finds_the_endpoints_as_tools(served):
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def tools():
        async with (
            streamable_http_client(f"{served}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return (await session.list_tools()).tools

    with ThreadPoolExecutor(1) as pool:  # where no browser's event loop runs already
        found = {tool.name: tool for tool in pool.submit(asyncio.run, tools()).result()}
    assert {"generate", "image_to_image", "variations", "walk", "models", "words"} <= set(found)
    assert "Draws pictures of a prompt" in found["generate"].description
    assert "negative_prompt" in found["walk"].inputSchema["properties"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"count": 1000}, "from 1 to 64"),
        ({"steps": 101}, "steps"),
        ({"model": "../x"}, "no model"),
        ({"seed": -3}, "seed"),
    ],
)
def test_bad_input_is_told_in_one_sentence(client, bad, said):
    with pytest.raises(AppError, match=said):
        client.predict(prompt="hair", **bad, api_name="/generate")


def test_two_visitors_at_once_both_get_their_own_pictures(served):
    results = {}

    def visit(seed):
        client = connected(served)
        results[seed] = files(client.predict(prompt="hair", count=3, steps=5, seed=seed, api_name="/generate"))

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in (10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed in (10, 20, 30):
        assert [read_parameters(path).seed for path in results[seed]] == [seed, seed + 1, seed + 2]


def test_two_jobs_of_one_program_both_get_their_own_pictures(client):
    jobs = {
        seed: client.submit(prompt="hair", count=3, steps=20, seed=seed, api_name="/generate") for seed in (10, 20, 30)
    }
    for seed, job in jobs.items():
        paths = files(job.result(timeout=120))
        assert [read_parameters(path).seed for path in paths] == [seed, seed + 1, seed + 2]


def jobs_under_way():
    return [thread for thread in threading.enumerate() if thread.name == "job"]


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


LONG = {"prompt": "hair", "count": 64, "steps": 100, "sampler": "heun"}


def test_a_cancelled_job_stops_working_and_leaves_no_files(client, own_files):
    wait_until(lambda: not jobs_under_way())
    before = set(own_files.iterdir())
    job = client.submit(**LONG, api_name="/generate")
    wait_until(lambda: jobs_under_way() and set(own_files.iterdir()) > before)
    job.cancel()
    wait_until(lambda: not jobs_under_way())
    wait_until(lambda: not any(each.exists() for each in set(own_files.iterdir()) - before))


def test_a_job_stops_working_when_its_program_goes_away(served):
    wait_until(lambda: not jobs_under_way())
    data = ["hair", "", 64, "heun", 100, 2.5, 0, ""]
    event = httpx.post(f"{served}gradio_api/call/generate", json={"data": data}).json()["event_id"]
    with httpx.stream("GET", f"{served}gradio_api/call/generate/{event}") as answers:
        next(answers.iter_lines())
        wait_until(jobs_under_way)
    wait_until(lambda: not jobs_under_way())


def test_a_call_that_skips_the_queue_is_answered_at_once(served):
    data = ["hair", "", 1, "euler", 2, 2.5, 7, ""]
    answer = httpx.post(f"{served}gradio_api/run/generate", json={"data": data}, timeout=60).json()
    assert answer["data"][0][0]["image"]["path"].endswith(".png")
