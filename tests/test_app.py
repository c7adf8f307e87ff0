import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_importing_the_app_does_no_work():
    code = "import sys, app; assert 'gradio' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_app_without_any_model_is_a_page(monkeypatch, tmp_path):
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "none"))
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "none"))
    import app

    assert "generate" in {fn.api_name for fn in app.build().fns.values()}
