"""The Restore tab for programs: its endpoints answer with files or one sentence."""

import json

import numpy as np
import pytest
from PIL import Image

from sd_core import checkpoint
from sd_core.originals import open_original, save_mask


@pytest.fixture
def client(tmp_path, monkeypatch, restorer, generator):
    from gradio_client import Client

    for name, model in (("restorer", restorer), ("squares", generator)):
        checkpoint.save(model, tmp_path / "models" / name)
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "models"))
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SD_CORE_DEVICE", "cpu")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    import app

    page = app.build()
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield Client(address, verbose=False, analytics_enabled=False, download_files=str(tmp_path / "answers"))
    page.close()


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_endpoints_repair_find_and_clean(client, picture, tmp_path):
    from gradio_client import handle_file

    mask = np.zeros((40, 56), bool)
    mask[5:9, 7:30] = True
    save_mask(mask, tmp_path / "mask.png")
    sent = handle_file(str(picture))
    answers = client.predict(
        picture=sent, mask=handle_file(str(tmp_path / "mask.png")), steps=2, candidates=2, api_name="/restore"
    )
    assert len(answers) == 2
    before, after = open_original(picture).pixels, open_original(answers[0]["image"]).pixels
    assert (before[~mask] == after[~mask]).all() and (before != after)[mask].any()
    cleaned = client.predict(picture=sent, mask=None, mode="whole", upscale=2, api_name="/restore")
    assert Image.open(cleaned[0]["image"]).size == (112, 80)
    assert Image.open(client.predict(picture=sent, api_name="/find_damage")).size == (56, 40)
    assert Image.open(client.predict(picture=sent, api_name="/remove_noise")).size == (8, 8)

    (tmp_path / "letter.png").write_text("Dear reader")
    for wrong, sentence in (
        (dict(picture=handle_file(str(tmp_path / "letter.png"))), "is not a picture"),
        (dict(picture=sent, mode="gently"), "must be"),
        (dict(picture=sent, mode="whole", upscale=3), "enlarged"),
        (dict(picture=None), "Choose a picture"),
    ):
        with pytest.raises(Exception, match=sentence) as caught:
            client.predict(**({"mask": None} | wrong), api_name="/restore")
        assert str(tmp_path) not in str(caught.value)
    described = json.dumps(client.view_api(return_format="dict"))
    assert all(name in described for name in ('"/restore"', '"/find_damage"', '"/remove_noise"'))
