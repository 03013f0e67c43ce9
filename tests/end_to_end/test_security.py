"""What SECURITY.md promises: files run no code, names stay inside, no secret in results, no server."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import saescope
from saescope.config import ModelConfig
from saescope.errors import ModelError, SaeError
from saescope.model.load import load_model, load_skeleton
from saescope.sae.repository import locate

PACKAGE = Path(saescope.__file__).parent
CODE = [(path, ast.parse(path.read_text())) for path in sorted(PACKAGE.rglob("*.py"))]
REPO = PACKAGE.parents[1]

SECRETS = {
    "WANDB_API_KEY": "5ec3e75ec3e75ec3e75ec3e75ec3e75ec3e75ec3",
    "HF_TOKEN": "hf_s3cr3tS3cr3tS3cr3tS3cr3tS3cr3tS3cr",
    "AWS_SECRET_ACCESS_KEY": "aws-s3cr3t-in-the-environment",
    "SOME_PASSWORD": "p4ssw0rd-in-the-environment",
}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_in_the_source_runs_what_a_file_says():
    loads = 0
    for path, tree in CODE:
        for name, call in calls(tree):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            if name == "torch.load":
                loads += 1
                assert given.get("weights_only") == "True", f"{path}:{call.lineno}"
            assert given.get("allow_pickle") != "True", f"{path}:{call.lineno}"
            assert given.get("shell") != "True", f"{path}:{call.lineno}"
            assert given.get("trust_remote_code", "cfg") not in ("True", "1"), f"{path}:{call.lineno}"
            unsafe = r"(eval|exec|os\.system|(pickle|dill|joblib|marshal)\.loads?|yaml\.(unsafe_|full_)?load)"
            own = path.name == "formulas.py" and name == "eval"  # of formulas that this file writes
            assert own or not re.fullmatch(unsafe, name), f"{path}:{call.lineno} {name}"
    assert loads >= 3


def test_code_beside_a_model_is_not_run_unless_asked(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    trace = tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"open({str(trace)!r}, 'w')\n"
        "from transformers import GPTNeoXConfig as EvilConfig, GPTNeoXForCausalLM as EvilModel\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    (folder / "config.json").write_text(json.dumps(config))
    for load in (load_skeleton, lambda cfg: load_model(cfg, torch.float32, 0)):
        with pytest.raises(ModelError):
            load(ModelConfig(str(folder)))
    assert not trace.exists()


def test_a_pickle_in_place_of_weights_is_not_run(model_folder, sae_folder, tmp_path):
    trace = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (trace,))

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"embed_out.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError):
        load_model(ModelConfig(str(folder)), torch.float32, 0)
    saes = tmp_path / "saes" / "layers.2"
    saes.mkdir(parents=True)
    shutil.copy(sae_folder / "layers.2" / "cfg.json", saes)
    torch.save({"W_dec": Evil()}, saes / "sae.pt")
    with pytest.raises(SaeError, match="safetensors only"):
        locate(str(saes.parent), None, "layers.2")
    assert not trace.exists()


class Page(HTMLParser):
    """What a browser would run or fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.runs: list[str] = []
        self.fetches: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        policy = dict(attrs).get("http-equiv") == "Content-Security-Policy"
        if policy:
            self.policy = dict(attrs)["content"]
        acts = tag == "meta" and "http-equiv" in dict(attrs) and not policy
        if acts or tag in ("script", "iframe", "object", "embed", "base", "form", "foreignobject"):
            self.runs.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.runs.append(f"{tag} {name}")
            local = not value or value.startswith(("#", "data:"))
            link = tag == "a" and re.match(r"https://|(features|report)\.html(#|$)", value or "")
            fetching = name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
            if fetching and not local and not link:
                self.fetches.append(f"{tag} {name}={value}")


EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def evil_run(tmp_path_factory, model_folder, tokenizer_folder):
    """A run in its own process: scripts in texts and names, secrets in the environment, sockets watched."""
    here = tmp_path_factory.mktemp("evil")
    place = here / "<b onclick=alert(1)>probes"
    place.mkdir()
    for task in ("<script>x", "letters$x^2$"):
        lines = [json.dumps({"text": f"{EVIL} plain words {n} of {task} {EVIL}"}) for n in range(12)]
        (place / f"{task}.jsonl").write_text("\n".join(lines))
    subprocess.run(["git", "init", "-q"], cwd=here, check=True)
    remote = "https://me:t0k3n-in-a-remote@example.com/x.git"
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=here, check=True)
    code = (
        "import sys\n"
        "seen = []\n"
        "def watch(event, args):\n"
        "    if event == 'socket.bind': seen.append(args[1:])\n"
        "sys.addaudithook(watch)\n"
        "from saescope.cli.main import main\n"
        "code = main()\n"
        "print('BOUND', seen)\n"
        "sys.exit(code)\n"
    )
    args = [
        "model=local", f"model.name='{model_folder}'", "sae=neurons", "sae.k=4", "hookpoint.layer=2",
        "probes=folder", f"probes.path='{place}'", "probes.ctx_len=64", "metrics=quick",
        "metrics.min_count=5", "metrics.min_docs=3", "metrics.lm_tokens=100", "tracking=offline",
        f"tracking.tags=['{EVIL[:40]}']",
        "runtime.cache=off", "hydra.run.dir=run",
    ]  # fmt: skip
    env = {**os.environ, **SECRETS, "HF_HUB_OFFLINE": "1", "HOME": str(here / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=here, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (here / "run" / "printed.txt").write_text(done.stdout + done.stderr)
    return here / "run"


def test_reports_run_and_fetch_nothing(evil_run):
    source = (evil_run / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.runs == []
    assert page.fetches == []
    assert page.policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", source)
    assert "alert(1)" in source  # the text is there, as text
    for figure in (evil_run / "figures").glob("*.svg"):
        drawn = Page(figure.read_text(encoding="utf-8"))
        assert drawn.runs == []


def test_secrets_are_in_no_file_of_a_run(evil_run):
    secrets = [*SECRETS.values(), "t0k3n-in-a-remote"]
    files = [path for path in evil_run.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        data = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in data, f"{secret} in {path.relative_to(evil_run)}"


def test_no_server_is_opened(evil_run):
    bound = re.search(r"^BOUND (.*)$", (evil_run / "printed.txt").read_text(), re.MULTILINE)
    assert bound
    # urllib3, when imported, asks in this way whether the machine has IPv6
    assert ast.literal_eval(bound[1]) in ([], [(("::1", 0),)])


def test_links_in_a_local_folder_do_not_lead_to_names_outside(sae_folder, tmp_path):
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "layers.2").symlink_to(sae_folder / "layers.2")
    assert str(locate(str(tmp_path / "saes"), None, "layers.2").fetch("cfg.json")).startswith(str(tmp_path))
    (tmp_path / "saes" / "loop").symlink_to(tmp_path / "saes")
    assert locate(str(tmp_path / "saes"), None, "layers.2").folder == "layers.2"
    for name in ("../layers.2", "/etc", "layers.2/../../x", "a\0b"):
        with pytest.raises(SaeError):
            locate(str(tmp_path / "saes"), None, name)
