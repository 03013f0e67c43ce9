"""SAEs that the installed sae_lens registers: all of them, where they belong, without importing it."""

import subprocess
import sys
from collections import Counter

import pytest
from scripts.coverage_tables import DOCS

from saescope import compat
from saescope.catalogue.command_line import load_command
from saescope.catalogue.plan import make_plans
from saescope.catalogue.registry import installed_version, registered_rows
from saescope.catalogue.repositories import CatalogueRow
from saescope.catalogue.shapes import canonical, shape, suite_names
from saescope.config import CoverageConfig
from tests.catalogue.test_plan import composed

pytestmark = pytest.mark.skipif(compat.sae_lens_registry() is None, reason="sae_lens is not installed")

NO_KIND = ("hook_resid_mid", "embedding/")
"""Places that are neither the residual stream after a block nor what its MLP or attention computes."""


@pytest.fixture(scope="module")
def releases():
    return compat.sae_lens_releases()


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[CatalogueRow, ...]]:
    return {name: registered_rows(shape(name)) for name in (*suite_names(), "pythia-70m-deduped")}


def saes(rows: tuple[CatalogueRow, ...]) -> list[tuple[str, str, str]]:
    return [
        (row.release, row.ids[kind].format(layer=layer), row.folder(layer, kind))
        for row in rows
        for kind in row.ids
        for layer in row.layers
    ]


def test_every_registered_sae_is_in_a_row_of_its_model(releases, rows):
    models = {name: {row.release for row in rows[name]} for name in rows}
    expected = set()
    for name, release in releases.items():
        assert canonical(release.model) in rows, f"{release.model} is not in models.yaml"
        expected |= {
            (name, str(sae_id), path)
            for sae_id, path in release.saes_map.items()
            # the embeddings are what block 0 reads, the output of no block
            if not any(part in f"{sae_id} {path}" for part in NO_KIND) and sae_id != "blocks.0.hook_resid_pre"
        }
        assert {model for model, of_model in models.items() if name in of_model} <= {canonical(release.model)}
    listed = Counter(sae for of_model in rows.values() for sae in saes(of_model))
    assert set(listed) == expected
    assert set(listed.values()) == {1}
    assert len(listed) > 13_000


def test_numbers_of_the_docs(releases):
    text = DOCS.read_text(encoding="utf-8")
    if f"in {installed_version()}," not in text:
        pytest.skip("the page was made with another sae_lens")
    number = sum(len(release.saes_map) for release in releases.values())
    assert f"{number:,} SAEs of {len({release.model for release in releases.values()})} models" in text


def test_rows_are_whole(rows):
    for name, of_model in rows.items():
        for row in of_model:
            assert row.model == name
            assert row.layers
            assert max(row.layers) < shape(name).num_layers, row
            assert row.seen == row.layers
            assert set(row.ids) == set(row.folders)
            assert len(row.ids) == 1
            assert all(
                "{layer}" in text or len(row.layers) == 1
                for text in (*row.ids.values(), *row.folders.values())
            )
            assert row.source == f"sae_lens {installed_version()} pretrained_saes.yaml"
            assert row.basis
            assert row.date
            assert row.num_latents is None or "num_latents" in row.unverified


def test_sizes_and_places_are_those_that_sae_lens_reads_from_the_names(releases, rows):
    """Its own readers of Gemma Scope 1 and Qwen-Scope, which need no network."""
    compared = 0
    for of_model in rows.values():
        for row in of_model:
            converter = releases[row.release].conversion_func
            if converter not in ("gemma_2", "qwen_scope"):
                continue
            ((kind, sae_id),) = row.ids.items()
            layer = min(row.layers)
            cfg = compat.sae_lens_config(row.release, sae_id.format(layer=layer), converter)
            assert row.num_latents == cfg["d_sae"], row
            assert row.architecture == cfg["architecture"]
            place = row.hooks[kind] if row.hooks else "blocks.{layer}.hook_resid_post"
            assert place.format(layer=layer) == cfg["hook_name"]
            assert row.k == cfg.get("activation_fn_kwargs", {}).get("k")
            compared += 1
    assert compared > 1500


def test_what_is_chosen():
    def chosen(model: str, kind: str, layer: int):
        (plan,) = make_plans(
            CoverageConfig((model,), kind=(kind,), layers=(layer,)),
            [shape(model)],
            registered_rows(shape(model)),
        )
        return plan

    resid = chosen("gemma-2-2b", "resid", 13)
    assert (resid.state, resid.row.release, resid.num_latents) == (
        "covered",
        "gemma-scope-2b-pt-res-canonical",
        16384,
    )
    assert resid.command == (
        "saescope model=gemma-2-2b hookpoint.layer=13 sae=saelens "
        "sae.release=gemma-scope-2b-pt-res-canonical sae.id=layer_13/width_16k/canonical"
    )
    # Gemma 2 has a norm behind its MLP: layers.13.mlp is another activation than hook_mlp_out
    assert "hookpoint=custom hookpoint.name=blocks.13.hook_mlp_out" in chosen("gemma-2-2b", "mlp", 13).command
    heads = chosen("gemma-2-2b", "attention", 13)
    assert "hookpoint=custom hookpoint.name=blocks.13.attn.hook_z" in heads.command
    assert "heads" in heads.row.caution
    gpt2 = chosen("openai-community/gpt2", "resid", 6)
    assert (gpt2.row.release, gpt2.num_latents) == ("gpt2-small-resid-post-v5-32k", 32768)
    assert gpt2.l0 == 32
    scope = chosen("llama-3.1-8b", "mlp", 16)
    assert (scope.row.release, scope.num_latents) == ("llama_scope_lxm_8x", 32768)
    qwen = chosen("Qwen/Qwen3-1.7B-Base", "resid", 14)
    assert (qwen.row.release, qwen.k, qwen.num_latents) == ("qwen-scope-3-1.7b-base-w32k-l50", 50, 32768)
    transcoder = chosen("qwen3-4b", "mlp", 18)
    assert "transcoder" in transcoder.row.caution
    assert chosen("qwen3-4b", "resid", 18).state == "train"


def test_the_input_of_a_block_is_the_output_of_the_one_before():
    (row,) = [
        row
        for row in registered_rows(shape("gpt2"))
        if row.release == "gpt2-small-res-jb" and row.covers(7, "resid")
    ]
    assert load_command(shape("gpt2"), 7, "resid", row) == (
        "saescope model=gpt2 hookpoint.layer=7 sae=saelens sae.release=gpt2-small-res-jb "
        "sae.id=blocks.8.hook_resid_pre"
    )


def test_commands_of_many_releases_are_accepted(rows):
    done = set()
    for name, of_model in rows.items():
        for row in of_model:
            if row.release in done or not row.readable:
                continue
            done.add(row.release)
            ((kind, sae_id),) = row.ids.items()
            layer = max(row.layers)
            if len(done) % 4:  # composing takes a while
                continue
            cfg = composed(load_command(shape(name), layer, kind, row))
            assert (cfg.sae.source, cfg.sae.release, cfg.sae.id) == (
                "saelens", row.release, sae_id.format(layer=layer),
            )  # fmt: skip
            assert canonical(cfg.model.repo) == name
            if row.hooks:
                assert cfg.hookpoint.name == row.hooks[kind].format(layer=layer)
            else:
                assert (cfg.hookpoint.kind, cfg.hookpoint.layer) == (kind, layer)
    assert len(done) > 150


def test_a_hub_id_outside_the_table_of_models_is_matched_by_its_name(model_folder):
    assert registered_rows(shape(str(model_folder))) == ()


def test_pythia_without_deduplication_has_none():
    assert registered_rows(shape("pythia-70m")) == ()
    assert len(saes(registered_rows(shape("pythia-70m-deduped")))) == 6 + 6 + 6 + 44 + 40 + 56 + 48


def test_the_registry_is_read_without_importing_sae_lens():
    code = (
        "import sys\n"
        "from saescope.cli.catalogue import main as coverage\n"
        "sys.argv = ['saescope-coverage', 'models=gemma-2-2b', 'kind=all']; assert coverage() == 0\n"
        "heavy = {'torch', 'transformers', 'sae_lens', 'transformer_lens', 'pandas'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("9 of 9 wanted hookpoints have pre-trained SAEs")
    assert out.splitlines()[-1] == "HEAVY []"
