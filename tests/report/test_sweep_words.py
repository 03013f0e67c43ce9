import json
import re
from pathlib import Path

import pandas as pd
import yaml

from saescope.report.sweep import write_sweep
from tests.report.sweep_folders import write_job


def sentences(folder: Path, *jobs: dict) -> list[str]:
    for at, settings in enumerate(jobs):
        write_job(folder / str(at), **settings)
    return list(write_sweep([folder], folder).sentences)


def about(all_sentences: list[str], start: str) -> list[str]:
    return [sentence for sentence in all_sentences if sentence.startswith(start)]


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {key.replace("__", "/"): value for key, value in values.items()}))


def test_names_have_no_direction(tmp_path):
    texts = sentences(
        tmp_path,
        {"kind": "attention", "si": 0.30, "q": 0.5},
        {"kind": "mlp", "si": 0.20, "q": 0.4},
        {"kind": "resid", "si": 0.10, "q": 0.3},
    )
    assert not [sentence for sentence in texts if re.search(r"\b(falls|rises)\b", sentence)]
    (si,) = about(texts, "SI by hookpoint.kind")
    assert re.fullmatch(
        r"SI by hookpoint.kind: attention 0.(30|29)\d, mlp 0.(20|19)\d, resid 0.(10|09)\d+.", si
    )
    page = (tmp_path / "sweep.html").read_text()
    assert ">lower<" in page
    assert ">falls<" not in page


def test_equal_values_of_names_are_within_noise(tmp_path):
    texts = sentences(tmp_path, {"kind": "mlp", "si": 0.2}, {"kind": "resid", "si": 0.2})
    assert "(within noise of mlp)" in about(texts, "SI by hookpoint.kind")[0]
    assert "SI beside hookpoint.kind=mlp" in pd.read_csv(tmp_path / "sweep.csv")["within_noise"][1]


def test_names_are_set_side_by_side_at_each_value_of_the_others(tmp_path):
    jobs = [{"kind": kind, "k": k, "si": si} for k, up in ((16, 0), (32, 0.1)) for kind, si in
            (("mlp", 0.2 + up), ("resid", 0.3 + up))]  # fmt: skip
    (si,) = about(sentences(tmp_path, *jobs), "SI by hookpoint.kind")
    assert re.fullmatch(r".*: at sae.k=16 mlp 0.\d+, resid 0.\d+; at sae.k=32 mlp 0.\d+, resid 0.\d+\.", si)


CONTROLS = [
    {"si": 0.246, "q": 0.4},
    {"si": 0.181, "q": 0.3, "source": "random"},
    {"si": 0.05, "q": 0.2, "source": "neurons", "expansion": 1},
    {"si": 0.077, "q": 0.1, "random_init": True},
    {"si": 0.06, "q": 0.1, "random_init": True, "source": "random"},
]


def test_controls_are_the_yardstick(tmp_path):
    texts = sentences(tmp_path, *CONTROLS)
    assert (
        "5 jobs: 1 result and 4 controls (random SAE; neurons; random weights; random SAE on random "
        in " ".join(texts)
    )
    (si,) = about(texts, "SI beside controls")
    assert re.fullmatch(
        r"SI beside controls: trained 0.24\d; "
        r"random SAE 0.18\d, 7[345] % of it, difference 0.06\d+ \(0.06\d+ to 0.06\d+\); "
        r"neurons 0.0[45]\d+, 2\d % of it, difference 0.19\d \(0.19\d to 0.\d+\); "
        r"random weights 0.07\d+, 3[012] % of it, difference 0.1[67]\d \(0.16\d to 0.17\d\)\.",
        si,
    )
    assert about(texts, "Q beside controls")
    assert about(texts, "FVU: trained")
    assert about(texts, "Every setting has one seed")
    assert not [sentence for sentence in texts if re.search(r"\b(falls|rises|cannot tell)\b", sentence)]
    controls = pd.read_csv(tmp_path / "sweep.csv", keep_default_na=False)["control"]
    assert list(controls) == ["", "random SAE", "neurons", "random weights", "random SAE on random weights"]
    assert "Beside the controls" in (tmp_path / "sweep.html").read_text()


def test_controls_are_no_broken_jobs(tmp_path):
    for at, settings in enumerate(CONTROLS):
        write_job(tmp_path / str(at), **settings)
        change(tmp_path / str(at), "metrics.json", sae__explained_variance=0.1, lm__ce_score=0.0)
    (poor,) = about(list(write_sweep([tmp_path], tmp_path).sentences), "In ")
    assert poor.startswith("In 1 of 1 job (controls aside) the SAE reconstructs badly")
    assert poor.endswith("(0).")


def test_each_result_has_the_control_of_its_own_shape(tmp_path):
    texts = sentences(
        tmp_path,
        {"k": 16, "si": 0.2},
        {"k": 32, "si": 0.3},
        {"k": 16, "si": 0.1, "source": "random"},
        {"k": 32, "si": 0.15, "source": "random"},
        {"k": 16, "expansion": 16, "si": 0.4, "source": "random"},
    )
    (si,) = about(texts, "SI beside controls")
    assert re.search(
        r"at sae.k=16 trained 0.\d+; random SAE 0.(10|09)\d+, \d+ % of it, difference 0.[01]\d+ "
        r"\(0.[01]\d+ to 0.1\d+\)\. At sae.k=32 trained",
        si,
    )
    assert "random SAE 0.4" not in si
    assert about(texts, "SI rises with sae.k:")  # of the results, not of the controls


def test_a_control_of_another_shape_is_not_set_beside_a_result(tmp_path):
    texts = sentences(
        tmp_path,
        {"k": 16, "si": 0.2},
        {"k": 32, "si": 0.1, "source": "random"},
        {"k": 16, "random_init": True},
    )
    (si,) = about(texts, "SI beside controls")
    assert "random SAE" not in si
    assert "random weights" in si
    (missing,) = about(texts, "No control of the kind random SAE is alike otherwise")
    assert "same model, layer, k, number of latents" in missing


def test_many_results_give_a_range(tmp_path):
    jobs = [
        {"k": k, "si": 0.2, "random_init": control} for k in (2, 4, 8, 16, 32) for control in (False, True)
    ]
    for job in jobs[1::2]:
        job["si"] = 0.1
    (si,) = about(sentences(tmp_path, *jobs), "SI beside controls")
    assert re.fullmatch(
        r"SI beside controls: over 5 results, of the trained value: random weights (49|50) %( to 5\d %)?, "
        r"below the result beyond noise in all 5\.",
        si,
    )


def test_a_control_above_its_result_is_said(tmp_path):
    jobs = [{"k": k, "si": 0.1, "random_init": control} for k in (2, 4, 8, 16) for control in (False, True)]
    for job in jobs[1::2]:
        job["si"] = 0.2
    (si,) = about(sentences(tmp_path, *jobs), "SI beside controls")
    assert si.endswith(", above the result beyond noise in all 4.")
    assert "below" not in si


def test_a_frozen_decoder_is_a_control(tmp_path):
    for at, freeze in enumerate(("none", "decoder")):
        job = write_job(tmp_path / str(at), si=0.3 - 0.1 * at, identity=freeze)
        config = yaml.safe_load((job / "config.yaml").read_text())
        config["sae"]["freeze"] = freeze
        (job / "config.yaml").write_text(yaml.safe_dump(config))
    texts = list(write_sweep([tmp_path], tmp_path).sentences)
    assert "frozen decoder 0.2" in about(texts, "SI beside controls")[0] or "frozen decoder 0.19" in " ".join(
        texts
    )
    assert not about(texts, "SI by sae.freeze")


def test_only_controls_are_compared_with_each_other(tmp_path):
    texts = sentences(tmp_path, {"source": "random", "si": 0.2}, {"source": "neurons", "si": 0.1})
    assert about(texts, "All 2 jobs are controls")
    assert about(texts, "SI by sae.source: random 0.")


def test_each_of_two_axes_has_its_own_effect(tmp_path):
    si = {(4, 4): 0.20, (8, 4): 0.15, (4, 8): 0.30, (8, 8): 0.25}
    texts = sentences(tmp_path, *({"k": k, "expansion": e, "si": value} for (k, e), value in si.items()))
    (k,) = about(texts, "SI falls with sae.k")
    (width,) = about(texts, "SI rises with sae.expansion_factor")
    # standard error of a difference: 0.0015 · √(2 · 0.09) = 0.0006
    assert re.fullmatch(
        r"SI falls with sae.k, at fixed sae.expansion_factor \(mean of 2 settings\): "
        r"-0.0[45]\d+ ± 0.00[12]\d+ from 4 to 8\.", k
    )  # fmt: skip
    assert re.search(
        r"at fixed sae.k \(mean of 2 settings\): \+0\.(10|09)\d+ ± 0.00[12]\d+ from 4 to 8\.", width
    )
    assert not [sentence for sentence in texts if "values from" in sentence]


def test_an_effect_that_changes_sign_has_no_mean(tmp_path):
    si = {(4, 4): 0.20, (8, 4): 0.30, (4, 8): 0.30, (8, 8): 0.20}
    texts = sentences(tmp_path, *({"k": k, "expansion": e, "si": value} for (k, e), value in si.items()))
    (k,) = about(texts, "From sae.k 4 to 8 the effect on SI changes sign: ")
    assert re.search(r"it rises at sae.expansion_factor=4 \(\+0.\d+ ± 0.00[12]\d+\) and falls at", k)
    assert not [text for verb in ("rises with", "falls with", "along") for text in about(texts, f"SI {verb}")
                if "sae.k," in text]  # fmt: skip


def test_p_at_its_floor_on_the_sweep_page(tmp_path):
    write_job(tmp_path / "0", k=16)
    write_job(tmp_path / "1", k=32)
    change(tmp_path / "1", "metrics.json", q__p=2 / 21)
    write_sweep([tmp_path], tmp_path)
    page = (tmp_path / "sweep.html").read_text()
    assert re.search(r"data-sort=\"0.0476\"[^>]*>≤ 1/21<", page)
    assert re.search(r"data-sort=\"0.095\d+\"[^>]*>0.0952<", page)
    assert pd.read_csv(tmp_path / "sweep.csv")["q/p"][0] == 0.0476


def test_too_little_evidence_is_said_of_the_sweep(tmp_path):
    for at in range(2):
        job = write_job(tmp_path / str(at), k=16 * (at + 1))
        change(job, "metrics.json", task__code__docs=11)
        config = yaml.safe_load((job / "config.yaml").read_text())
        config["metrics"]["permutations"] = 100
        (job / "config.yaml").write_text(yaml.safe_dump(config))
        features = pd.read_parquet(job / "features.parquet")
        features["si_p"] = features["si_p"].where(features["si_p"].isna(), 1 / 101)
        features.to_parquet(job / "features.parquet", index=False)
    texts = list(write_sweep([tmp_path], tmp_path).sentences)
    assert about(texts, "The smallest task, code, has 11 documents, fewer than 20, in all 2 jobs")
    assert about(texts, "100 permutations are few: 100 % of the supported latents share")
