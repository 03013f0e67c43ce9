"""A job's settings as columns: only what applied, and axes that a choice brings with it are no axes."""

from pathlib import Path
from typing import Any

from saescope.config import NeuronSae, RandomSae, TrainSae
from saescope.config.compose import compose
from saescope.report.sweep.settings import axes, settings, varies
from saescope.runfolder.run import Run


def row(config: dict[str, Any], source: str, **sae: Any) -> dict[str, Any]:
    provenance = {
        "model": {"name": "embedded", "num_parameters": 10, "num_layers": 6},
        "hookpoint": {"name": "layers.3", "kind": "resid", "layer": 3},
        "sae": {"source": source, "k": 32, "expansion_factor": 8.0, "num_latents": 64, **sae},
    }
    return settings(
        Run(
            Path("0"),
            "ok",
            "",
            metrics={},
            status={},
            overrides=(),
            config=config,
            provenance=provenance,
            tracking={},
            histograms={},
        )
    )


def test_controls_beside_a_training_have_no_training_settings():
    kinds = (TrainSae(tokens=5000, lr=0.1), RandomSae(), NeuronSae())
    base = compose("sae=train").as_dict()
    rows = []
    for kind in kinds:
        config = {**base, "sae": vars(kind)}
        rows.append(row(config, kind.source))
    assert axes(rows, placed_by_depth=True) == {"sae.source": []}
    assert not any(varies(rows, key) for key in ("sae.tokens", "sae.lr", "corpus.ctx_len", "sae.init_seed"))


def test_a_value_that_some_trainings_leave_open_is_an_axis():
    rows = [row(compose("sae=train", f"sae.lr={lr}").as_dict(), "train") for lr in ("null", "0.1")]
    assert axes(rows, placed_by_depth=True) == {"sae.lr": []}
    rows.append(row(compose("sae=neurons").as_dict(), "neurons"))
    assert list(axes(rows, placed_by_depth=True)) == ["sae.source", "sae.lr"]


def test_a_folder_of_an_older_version_beside_a_new_one_makes_no_axis():
    """It has the keys of all sources, the depth that was not used, and the whole of dynamic_k and corpus."""
    new = compose("sae=neurons", "hookpoint.layer=3").as_dict()
    old = compose("sae=train", "dynamic_k=mlp", "model.sae_repo=x").as_dict()
    old["sae"] |= {"source": "neurons", "repo": None, "release": None}
    old["hookpoint"] |= {"layer": 3}
    old["dynamic_k"] |= {"target": "none"}
    rows = [row(config, "neurons") for config in (new, old)]
    assert rows[0] == rows[1]
    assert rows[1]["hookpoint.depth"] == 0.5  # of the layer: 3 of 6
    assert rows[1]["sae.tokens"] is None
    assert axes(rows, placed_by_depth=False) == {}
