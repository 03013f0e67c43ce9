"""The data files against independent facts: the package, conf/, published parameter counts."""

import json
from pathlib import Path

import pytest
import yaml

import saescope
from saescope import compat
from saescope.catalogue import known_repositories
from saescope.catalogue.registry import registered_rows
from saescope.catalogue.repositories import CatalogueRow, load_rows
from saescope.catalogue.shapes import canonical, shape, suite_names
from saescope.config import config_dir
from saescope.config.catalogue import KINDS
from tests.catalogue.test_plan import composed

ASSETS = Path(saescope.__file__).parent / "assets"
CONF = Path(config_dir())
OPTIONS = {
    p.stem: yaml.safe_load(p.read_text()) for p in (CONF / "model").glob("*.yaml") if p.stem != "local"
}

# Parameters without embeddings, as the Pythia repository's README publishes them.
PARAMETERS = {
    "pythia-14m": 1_189_888,
    "pythia-31m": 4_739_072,
    "pythia-70m": 18_915_328,
    "pythia-160m": 85_056_000,
    "pythia-410m": 302_311_424,
    "pythia-1b": 805_736_448,
    "pythia-1.4b": 1_208_602_624,
    "pythia-2.8b": 2_517_652_480,
    "pythia-6.9b": 6_444_163_072,
    "pythia-12b": 11_327_027_200,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_of_pythia_give_its_published_parameters(name):
    model = shape(name)
    layers, width = model.num_layers, model.width
    assert layers * (12 * width**2 + 13 * width) + 2 * width == PARAMETERS[name]


def test_sizes_of_the_embedded_model():
    config = json.loads((ASSETS / "model" / "config.json").read_text())
    model = shape("embedded")
    assert (model.num_layers, model.width) == (config["num_hidden_layers"], config["hidden_size"])


def test_the_embedded_saes_are_all_recorded():
    recorded = {
        row.folder(layer, kind): (row.num_latents, row.k)
        for row in load_rows()
        if row.repo == "embedded"
        for kind in row.folders
        for layer in row.layers
    }
    embedded = {}
    for path in (ASSETS / "saes").glob("*/cfg.json"):
        cfg = json.loads(path.read_text())
        embedded[path.parent.name] = (cfg["num_latents"] or cfg["d_in"] * cfg["expansion_factor"], cfg["k"])
    assert recorded == embedded


def test_every_model_option_is_in_the_table_under_its_hub_id():
    assert set(suite_names()) >= set(OPTIONS)
    with_option = {name for name in suite_names() if shape(name).overrides[0][1] != "local"}
    assert with_option == set(OPTIONS)
    for option, values in OPTIONS.items():
        for name in (option, values["name"], values["name"].upper()):
            assert shape(name).overrides == (("model", option),)
            assert shape(name).catalogue_name == option


@pytest.mark.parametrize("option", OPTIONS)
def test_the_command_in_an_option_is_accepted(option):
    first = (CONF / "model" / f"{option}.yaml").read_text().splitlines()[0]
    cfg = composed(first.removeprefix("# ").split("   ")[0].split("  (")[0])
    assert option == "embedded" or canonical(cfg.model.repo) == option
    if cfg.sae.source == "saelens":
        if compat.sae_lens_registry() is None:
            pytest.skip("sae_lens is not installed")
        ids = {
            (row.release, row.ids[kind].format(layer=layer))
            for row in registered_rows(shape(option))
            for kind in row.ids
            for layer in row.layers
            if layer == cfg.hookpoint.layer
        }
        assert (cfg.sae.release, cfg.sae.id) in ids


@pytest.mark.parametrize("option", OPTIONS)
def test_conf_names_the_best_repository_that_was_seen(option):
    doubtful = {"model", "folders", "layers"}
    rows = [r for r in load_rows() if r.model == option and r.format == "sparsify" and r.seen]
    sure = [r.repo for r in rows if not doubtful & set(r.unverified)]
    assert OPTIONS[option]["sae_repo"] == (sure[0] if sure else None)
    if sure:
        assert known_repositories(option)[0] == sure[0]


@pytest.mark.parametrize("row", load_rows(), ids=lambda r: f"{r.repo}-{'-'.join(r.folders)}")
def test_rows_are_whole(row: CatalogueRow):
    assert row.basis
    assert row.source
    assert row.date
    assert row.seen <= row.layers
    assert set(row.folders) <= set(KINDS)
    assert set(row.fvu) <= row.layers
    assert set(row.unverified) <= {"model", "folders", "layers", "num_latents", "k"}
    assert all("{layer}" in pattern or len(row.layers) == 1 for pattern in row.folders.values())
    assert bool(row.folders) == bool(row.layers)
    if row.model is not None:
        model = shape(row.model)
        assert model.catalogue_name == row.model
        assert all(layer < model.num_layers for layer in row.layers)
    if row.format == "saelens" and row.folders:
        assert set(row.ids) == set(row.folders)
        assert row.release
    if not row.exists:
        assert not row.folders


def test_known_repositories():
    assert known_repositories("pythia-70m")[0] == "EleutherAI/sae-pythia-70m-32k"
    assert known_repositories("EleutherAI/pythia-70m-deduped") == ["EleutherAI/sae-pythia-70m-deduped-32k"]
    assert known_repositories("pythia-410m")[0] == "EleutherAI/sae-pythia-410m-65k"
    assert known_repositories("pythia-12b") == []
    assert known_repositories("somebody/some-model") == []


def test_repositories_that_do_not_exist_are_recorded_and_never_offered():
    absent = {row.repo for row in load_rows() if not row.exists}
    assert "EleutherAI/sae-pythia-70m-32x" in absent
    offered = {repo for name in suite_names() for repo in known_repositories(name)}
    assert not absent & offered
