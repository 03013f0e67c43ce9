"""The wheel carries conf/ and works from another folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_wheel(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        conf = {f"saescope/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "conf").rglob("*.yaml")}
        assert {n for n in names if n.startswith("saescope/conf/")} == conf
        for needed in (
            "assets/model/model.safetensors",
            "assets/saes/layers.3/cfg.json",
            "report/templates/style.css",
            "report/templates/sweep.js",
            "catalogue/repositories.yaml",
            "catalogue/models.yaml",
        ):
            assert f"saescope/{needed}" in names
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "sys.argv = ['saescope', '--cfg', 'job']\n"
        "import saescope.cli.main as cli; assert 'site' in cli.__file__; cli.main()"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert "source: hub" in out
