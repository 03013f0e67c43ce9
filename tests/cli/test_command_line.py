"""The words of a command as Hydra gets them, and how many jobs they are."""

import pytest

from saescope.cli.command_line import read
from saescope.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "words", "num_jobs"),
    [
        ("sae=train sae.tokens=5", "sae=train sae.tokens=5", None),
        ("-m sae.k=4,8 seed=range(3)", "sae.k=4,8 seed=range(3) -m", 6),
        ("seed=1 --cfg job +sae.k=3", "seed=1 sae.k=3 --cfg job", None),
        # one option that is not the default: for the jobs only
        ("-m sweep=expansion sae.tokens=5", "sweep=expansion sae.tokens=choice(5) -m", 3),
        ("-m sweep=expansion ++sae.tokens=5,6", "sweep=expansion sae.tokens=5,6 -m", 6),
        ("-m sweep=seeds sae.init_seed=0,1", "sweep=seeds sae.init_seed=0,1 -m", 2),
        ("-m sweep=seeds sae.init_seed=3", "sweep=seeds sae.init_seed=choice(3) -m", 1),
        ("-m sweep=seeds sae.finetune=", "sweep=seeds sae.finetune=choice('') -m", 5),
        # several options: for those that have the key
        ("-m sweep=controls sae.tokens=5", "sweep=controls ++sae.tokens=5 -m", 12),
        ("-m +sweep=controls sae.k=5", "sweep=controls sae.k=5 -m", 12),
        ("-m sae=train,random sae.tokens=5", "sae=train,random ++sae.tokens=5 -m", 2),
        ("-m sae=hub,train sae.tokens=5 sae.repo=x", "sae=hub,train ++sae.tokens=5 ++sae.repo=x -m", 2),
        ("-m sae=pca,frozen_decoder sae.optimizer=adam", "sae=pca,frozen_decoder ++sae.optimizer=adam -m", 2),
        ("-m sae=train,frozen_decoder sae.tokens=5", "sae=train,frozen_decoder sae.tokens=choice(5) -m", 2),
        ("-m sae=train,random sae.init_seed=5", "sae=train,random sae.init_seed=choice(5) -m", 2),
        ("-m sae=glob(*,exclude=[s*,p*]) sae.repo=x", "sae=glob(*,exclude=[s*,p*]) ++sae.repo=x -m", 7),
        (
            "-m sae=python,random sae.target=m:f +sae.options.w=3",
            "sae=python,random ++sae.target=m:f ++sae.options.w=3 -m",
            2,
        ),
        ("-m dynamic_k=none,mlp dynamic_k.rounds=0", "dynamic_k=none,mlp ++dynamic_k.rounds=0 -m", 2),
        (
            "-m hookpoint=resid,custom hookpoint.name=x hookpoint.layer=2",
            "hookpoint=resid,custom ++hookpoint.name=x ++hookpoint.layer=2 -m",
            2,
        ),
        ("-m probes=embedded,folder probes.path=x", "probes=embedded,folder ++probes.path=x -m", 2),
        ("-m corpus=embedded,local corpus.path=x", "corpus=embedded,local ++corpus.path=x -m", 2),
        ("-m experiment=smoke,none sae.tokens=5", "experiment=smoke,none ++sae.tokens=5 -m", 2),
        # no axis, or a key that no option of the axis has: Hydra refuses it
        ("-m seed=1,2 ++sae.tokens=5", "seed=1,2 sae.tokens=5 -m", 2),
        ("-m sweep=controls sae.repo=x", "sweep=controls sae.repo=x -m", 12),
        ("-m sweep=controls sae.tokenz=5", "sweep=controls sae.tokenz=5 -m", 12),
        ("-m hydra/sweeper=optuna sae.k=range(3)", "hydra/sweeper=optuna sae.k=range(3) -m", None),
        ("-m seed=interval(0,1)", "seed=interval(0,1) -m", None),
    ],
)
def test_words(typed, words, num_jobs):
    command = read(typed.split())
    assert " ".join(command.words) == words
    assert command.num_jobs == num_jobs


def test_presets_of_the_user(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      sae: train,neurons\n      seed: 0,1\n"
    )
    command = read(["-m", "--config-dir", str(tmp_path), "sweep=mine", "sae.tokens=5"])
    assert command.words == ("sweep=mine", "++sae.tokens=5", "-m", "--config-dir", str(tmp_path))
    assert command.num_jobs == 4


def test_a_flag_keeps_its_value():
    assert read(["--config-dir", "/a=b/c d", "seed=1"]).words == ("seed=1", "--config-dir", "/a=b/c d")
    with pytest.raises(ConfigError, match="cannot read 'folder/x'"):
        read(["model.name=my", "folder/x"])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--verson", "unknown flag '--verson': did you mean '--version'"),
        ("--live", "unknown flag '--live'"),
        ("-x", "unknown flag '-x'"),
    ],
)
def test_unknown_flags(flag, message):
    with pytest.raises(ConfigError, match=message):
        read(["seed=1", flag])


@pytest.mark.parametrize("flag", ["--multi", "--cfg=job", "-m", "--info", "-cjob", "-sc"])
def test_flags_of_hydra(flag):
    assert flag in read([flag, "seed=1"]).words


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("hookpoint.layer=[3,6,9]", "hookpoint.layer=3,6,9"),
        ("hookpoint.depth=[0.25, 0.5]", "hookpoint.depth=0.25,0.5"),
        ("hookpoint.name=[layers.1.mlp,layers.2]", "hookpoint.name=layers.1.mlp,layers.2"),
    ],
)
def test_several_hookpoints_in_one_command_are_a_sweep(word, axis):
    line = read([word, "sae.k=4"])
    assert set(line.words) == {axis, "sae.k=4", "--multirun"}
    assert line.num_jobs == len(axis.split(","))
    assert line.axes == {axis.partition("=")[0]: axis.partition("=")[2].split(",")}
    assert set(read([word, "-m"]).words) == {axis, "-m"}


def test_the_axes_of_a_sweep_are_known_where_they_are_a_product():
    line = read(["-m", "sweep=layers", "sae=train,random", "sae.k=4"])
    assert line.axes == {"hookpoint.depth": ["0.25", "0.5", "0.75"], "sae": ["train", "random"]}
    assert read(["sae.k=4"]).axes == {}
    assert read(["-m", "hydra/sweeper=optuna", "sae.k=4,8"]).axes == {}
    assert read(["-m", "sae.k=interval(1,4)"]).axes == {}
