"""`features.html`, `latents.npz` and `saescope-feature` of a small job."""

import base64
import gzip
import hashlib
import json
import re
import shutil

import numpy as np
import pytest

import saescope
from saescope.cli.feature import main
from saescope.errors import ReportError
from saescope.report import latents_page
from saescope.report.latents_page import payload, write_latents_page
from saescope.runfolder.latents import read_latents, write_latents

SMALL = (
    "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "metrics.lm_tokens=0",
    "probes.max_tokens_per_task=1500", "runtime.dtype=float32", "tracking=disabled", "runtime.cache=off",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saescope.run(*SMALL, folder=tmp_path_factory.mktemp("latents") / "run")


def unpacked(page: str, name: str):
    packed = re.search(rf'<script type="application/gzip" id="{name}">([^<]*)</script>', page)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def test_every_supported_latent_has_an_address_and_contexts(run):
    page = (run.path / "features.html").read_text(encoding="utf-8")
    supported = run.features.latent[run.features.supported].tolist()
    index = unpacked(page, "index")
    assert index["latents"] == supported
    assert (
        index["numbers"][index["labels"].index("firings")]
        == run.features["count"][run.features.supported].tolist()
    )
    shards = re.findall(r'id="(shard-\d+)"', page)
    details = [detail for shard in shards for detail in unpacked(page, shard)]
    assert len(details) == len(supported)
    assert all(detail["contexts"] for detail in details)
    for detail, latent in zip(details, supported, strict=True):
        assert sum(detail["histogram"]) == run.features["count"][latent]
        task, _, quantile, about, words, acts = detail["contexts"][0]
        assert quantile == 0
        assert len(words) == len(acts)
        assert acts[about] == pytest.approx(run.features.max_act[latent], rel=0.01)
        assert 0 <= task < len(run.tasks)


def test_the_contexts_are_those_of_the_examples(run):
    page = (run.path / "features.html").read_text(encoding="utf-8")
    index = unpacked(page, "index")
    first = run.examples[run.examples["rank"] == 0].iloc[0]
    at = index["latents"].index(int(first.latent))
    detail = unpacked(page, f"shard-{at // index['shard']}")[at % index["shard"]]
    task, document, _, _, _, _ = detail["contexts"][0]
    assert (run.tasks[task], document) == (first.task, first.doc)


def test_no_request_and_no_script_but_its_own(run):
    page = (run.path / "features.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_what_the_page_has_no_room_for_stands_beside_it_and_is_counted(run, tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    whole = (copy / "features.html").read_text(encoding="utf-8")
    shards = re.findall(r'id="shard-\d+">([^<]*)<', whole)
    assert len(shards) > 1
    head = re.search(r'id="index">([^<]*)<', whole)
    assert head is not None
    monkeypatch.setattr(latents_page, "ROOM", len(head[1]) + len(shards[0]))
    write_latents_page(saescope.open_run(copy), ["title"])
    page = (copy / "features.html").read_text(encoding="utf-8")
    assert re.findall(r'id="(shard-\d+)"', page) == ["shard-0"]
    scripts = sorted((copy / "features").iterdir(), key=lambda path: int(path.stem.removeprefix("shard-")))
    texts = [re.fullmatch(r'latentShard\((\d+), "([^"]*)"\);\n', script.read_text()) for script in scripts]
    assert [(int(text[1]), text[2]) for text in texts if text] == list(enumerate(shards))[1:]
    count = int(run.features.supported.sum())
    assert f"numbers of all {count:,} latents" in page
    assert f"{latents_page.SHARD} of them. Those of the other {count - latents_page.SHARD:,} stand" in page
    monkeypatch.undo()
    write_latents_page(saescope.open_run(copy), ["title"])
    assert not (copy / "features").exists()
    assert "'self'" not in (copy / "features.html").read_text(encoding="utf-8")


def test_the_report_links_to_it(run):
    report = (run.path / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'href="features\.html#latent-(\d+)"', report)
    assert len(shown) > 5


def test_markup_in_the_data_stays_data(run, tmp_path):
    """Tokens of a hostile probe file reach the page only inside the packed shards."""
    latents = read_latents(run.path / "latents.npz")
    evil = ["</script><script>alert(1)</script>"] * len(latents.words)
    write_latents(run.path / "evil.npz", {k: v for k, v in latents.arrays.items() if k != "words"}, evil)
    index, shards = payload(run, read_latents(run.path / "evil.npz"))
    assert "alert(1)" in json.dumps([index, shards])
    (run.path / "evil.npz").replace(run.path / "latents.npz")
    try:
        write_latents_page(run, ["<b>title</b>"])
        page = (run.path / "features.html").read_text(encoding="utf-8")
        assert "alert(1)" not in page
        assert "<b>title" not in page
    finally:
        write_latents(
            run.path / "latents.npz", {k: v for k, v in latents.arrays.items() if k != "words"}, latents.words
        )
        write_latents_page(run, ["title"])


def test_a_run_without_an_edge_has_a_page(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    run.edges.iloc[:0].to_parquet(copy / "edges.parquet", index=False)
    assert write_latents_page(saescope.open_run(copy), ["no edges"]) == copy / "features.html"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", None])
def test_a_damaged_file_is_one_line(run, tmp_path, content):
    path = tmp_path / "latents.npz"
    if content is None:
        np.savez(path, latent_L=np.array([1]))
    else:
        path.write_bytes(content)
    with pytest.raises(ReportError, match=r"latents\.npz"):
        read_latents(path)


def test_pickled_arrays_are_refused(tmp_path):
    path = tmp_path / "latents.npz"
    np.savez(path, latent_L=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ReportError, match="cannot be read"):
        read_latents(path)


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["saescope-feature", *map(str, words)])
    code = main()
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_a_latent_and_reads_text(run, monkeypatch, capsys):
    best = run.features[run.features.supported].sort_values("si", ascending=False).iloc[0]
    example = run.examples[run.examples.latent == best.latent].iloc[0]
    text = str(example.context_before) + str(example.token)
    code, out, _ = command(monkeypatch, capsys, run.path, int(best.latent), "--text", text)
    assert code == 0
    assert f"latent {int(best.latent)} of" in out
    assert "fires most on" in out
    assert "nearest decoder rows" in out
    assert "active on: '" in out


@pytest.mark.parametrize("latent", [-1, 5000])
def test_the_command_refuses_a_latent_that_is_not_there(run, monkeypatch, capsys, latent):
    code, _, err = command(monkeypatch, capsys, run.path, "--", latent)
    assert code == 1
    assert err.startswith("saescope-feature: there is no latent")
    assert "0 to 1023" in err


def test_the_command_refuses_a_folder_without_a_run(tmp_path, monkeypatch, capsys):
    code, _, err = command(monkeypatch, capsys, tmp_path, 3)
    assert code == 1
    assert len(err.splitlines()) == 1
