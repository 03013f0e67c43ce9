"""`probes=standard`: repositories of the published form on loopback, through the `datasets` client."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.dataset_hub import serve_datasets

HUMANEVAL = {
    "task_id": ["HumanEval/0", "HumanEval/1"],
    "prompt": ['def inc(x):\n    """Add one."""\n', "def dec(x):\n"],
    "canonical_solution": ["    return x + 1\n", "    return x - 1\n"],
    "test": ["assert inc(1) == 2", "assert dec(1) == 0"],
    "entry_point": ["inc", "dec"],
}
GSM8K = {
    "question": ["Ann has 3 hens and buys 2. How many?"],
    "answer": ["She has 3+2=<<3+2=5>>5 hens.\n#### 5"],
}
SQUAD = {
    "id": ["a", "b", "c"],
    "title": ["Rivers"] * 3,
    "context": ["The Rhine is long.", "The Rhine is long.", "The Po is in Italy."],
    "question": ["What is long?", "How is the Rhine?", "Where is the Po?"],
    "answers": [
        {"text": ["The Rhine", "Rhine"], "answer_start": [0, 4]},
        {"text": ["long"], "answer_start": [13]},
        {"text": ["Italy"], "answer_start": [13]},
    ],
}
WIKITEXT = {
    "text": ["", " = Robert Boulter = \n", " Robert is a well @-@ known actor of 1 @,@ 000 parts . \n", ""]
}
DAILYDIALOG = {"dialog": [["Hello . ", "Hi , Tom . "]], "act": [[1, 1]], "emotion": [[0, 0]]}
ARC = {
    "id": ["x", "y"],
    "question": ["Which is hot?", "Which is wet?"],
    "choices": [
        {"text": ["ice", "fire"], "label": ["A", "B"]},
        {"text": ["sea", "sand"], "label": ["1", "2"]},
    ],
    "answerKey": ["B", "1"],
}
# repository: (configuration, split, columns); the first is the one to be read
REPOS = {
    "openai/openai_humaneval": [("openai_humaneval", "test", HUMANEVAL)],
    "openai/gsm8k": [("main", "test", GSM8K), ("main", "train", GSM8K), ("socratic", "test", GSM8K)],
    "rajpurkar/squad": [("plain_text", "validation", SQUAD), ("plain_text", "train", SQUAD)],
    "Salesforce/wikitext": [
        ("wikitext-2-raw-v1", "test", WIKITEXT),
        ("wikitext-103-raw-v1", "test", WIKITEXT),
    ],
    "OpenRL/daily_dialog": [("default", "test", DAILYDIALOG), ("default", "train", DAILYDIALOG)],
    "allenai/ai2_arc": [("ARC-Challenge", "test", ARC), ("ARC-Easy", "test", ARC)],
}
READ = {
    "humaneval": [
        'def inc(x):\n    """Add one."""\n    return x + 1\n',
        "def dec(x):\n    return x - 1\n",
    ],
    "gsm8k": ["Ann has 3 hens and buys 2. How many?\nShe has 3+2=5 hens.\n#### 5"],
    "squad": ["The Rhine is long.\nWhat is long?\nThe Rhine", "The Po is in Italy.\nWhere is the Po?\nItaly"],
    "wikitext": ["Robert is a well-known actor of 1,000 parts ."],
    "dailydialog": ["Hello .\nHi , Tom ."],
    "arc_challenge": [
        "Which is hot?\nA. ice\nB. fire\nAnswer: B. fire",
        "Which is wet?\n1. sea\n2. sand\nAnswer: 1. sea",
    ],
}

SCRIPT = """
import json, sys
from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.probes import open_probes
assert not {"torch", "datasets"} & set(sys.modules), "imported before they are needed"
probes = open_probes(ProbesConfig("standard"))
out = {"origins": probes.origins}
for task in probes.tasks:
    (part,) = task.parts
    try:
        out[task.name] = [document.text for document in part.read()]
    except ProbeError as error:
        out[task.name] = str(error)
print(json.dumps(out))
"""


def build(folder: Path) -> dict[str, Path]:
    """Repositories with a README that names the files of each configuration, as on the Hub."""
    roots = {}
    for repo, tables in REPOS.items():
        root = roots[repo] = folder / repo
        configs: dict[str, list[str]] = {}
        for config, split, columns in tables:
            (root / config).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), root / config / f"{split}-00000-of-00001.parquet")
            lines = configs.setdefault(config, [f"- config_name: {config}", "  data_files:"])
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
        body = "\n".join(line for lines in configs.values() for line in lines)
        (root / "README.md").write_text(f"---\nconfigs:\n{body}\n---\n")
    return roots


def read_all(endpoint: str, home: Path, offline: bool = False) -> dict:
    """Open and read all six in a fresh process; the client reads its settings at import."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_commit_is_asked_for_again_while_the_hub_is_busy(tmp_path):
    script = (
        "from saescope.text.hub_dataset import HubDataset, find_commit\n"
        "print(find_commit(HubDataset('me/data', None, 'test'), None))"
    )
    (tmp_path / "data").mkdir()
    with serve_datasets({"me/data": tmp_path / "data"}) as hub:
        hub.busy = 2
        env = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
        assert (done.stdout.strip(), hub.busy) == (hub.commit, 0), done.stderr
    assert done.stderr.count("list of files of me/data: the Hub answers 503; trying again in 0 s") == 2


@pytest.mark.timeout(600)
def test_the_six_are_read_cached_and_versioned(tmp_path):
    repos = build(tmp_path / "hub")
    with serve_datasets(repos) as hub:
        first_commit = hub.commit
        first = read_all(hub.endpoint, tmp_path / "hf")
        origins = {f"probes {task}": f"{repo}@{hub.commit}" for task, repo in zip(READ, repos, strict=True)}
        assert first == {"origins": origins, **READ}
        fetched = {
            p.split("/", 5)[-1] for method, p in hub.seen if method == "GET" and p.endswith(".parquet")
        }
        assert not any("socratic" in name or "103" in name or "Easy" in name for name in fetched)

        hub.version = "second"
        changed = {key: value for key, value in SQUAD.items() if key != "answers"} | {"answer": ["x"] * 3}
        for split in ("validation", "train"):
            name = f"plain_text/{split}-00000-of-00001.parquet"
            pq.write_table(pa.table(changed), repos["rajpurkar/squad"] / name)
        # one split with other columns than the next: the library's own error, with its reason
        pq.write_table(pa.table({"n": [1]}), repos["openai/gsm8k"] / "main/train-00000-of-00001.parquet")
        (repos["OpenRL/daily_dialog"] / "default/test-00000-of-00001.parquet").unlink()
        readme = repos["OpenRL/daily_dialog"] / "README.md"
        readme.write_text(readme.read_text().replace("  - split: test\n    path: default/test-*\n", ""))
        later = read_all(hub.endpoint, tmp_path / "hf")
        for task, repo in zip(READ, repos, strict=True):
            assert later["origins"][f"probes {task}"] == f"{repo}@{hub.commit}" != origins[f"probes {task}"]
        assert later["arc_challenge"] == READ["arc_challenge"]
        assert "task gsm8k: cannot read dataset openai/gsm8k (CastError: Couldn't cast" in later["gsm8k"]
        assert later["squad"] == (
            "probes=standard task squad: dataset rajpurkar/squad has no column 'answers'; "
            "did you mean 'answer'? valid: id, title, context, question, answer"
        )
        assert later["dailydialog"] == (
            "probes=standard task dailydialog: dataset OpenRL/daily_dialog has no split 'test'; valid: train"
        )
    offline = read_all("http://127.0.0.1:9", tmp_path / "hf", offline=True)
    assert offline["origins"] == later["origins"], "the noted commits"
    assert {task: offline[task] for task in ("humaneval", "arc_challenge")} == {
        task: READ[task] for task in ("humaneval", "arc_challenge")
    }
    assert f"cannot be reached and the local cache has commit {first_commit}, not" in offline["gsm8k"]
    cold = read_all("http://127.0.0.1:9", tmp_path / "empty", offline=True)
    assert all("cannot read dataset" in cold[task] and "\n" not in cold[task] for task in READ)
