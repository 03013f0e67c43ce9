import numpy as np
import pytest

from saescope.report import headline
from saescope.report.cards import visible
from saescope.report.numbers import count, figure, p_value, percent, seconds
from tests.report.report_folder import STATUS, metrics

NO_GRAPH = {
    key: None
    for key in metrics()
    if key.startswith("q/") and key not in ("q/n_edges", "q/null_edges", "q/n_communities", "q/naive")
}


def told(status=STATUS, config=None, **changes):
    changed = metrics() | {key.replace("__", "/"): value for key, value in changes.items()}
    return headline(changed, status, config)


def text(*args, **kwargs):
    return "\n".join(map(str, told(*args, **kwargs)))


def test_clear_result_has_no_warning():
    assert [sentence.kind for sentence in told()] == ["finding"] * 9 + ["comparison"]
    assert "<" not in text()


def test_nothing_found_is_said_plainly():
    said = text(
        si__significant_frac=0.0, si__mean=0.0101, si__null_mean=0.0099, si__ci_low=0.0092,
        q__n_edges=0, q__n_communities=0, **{key.replace("/", "__"): None for key in NO_GRAPH},
    )  # fmt: skip
    assert "None of the 912 supported latents is more task-specific than chance allows" in said
    assert "no more than shuffled task labels give (0.00990)" in said
    assert "no validated edge, so there is no modularity to report" in said
    assert "Leiden" not in said


def test_no_supported_latent():
    said = text(features__supported=0, si__mean=None, q__n_edges=0, q__modularity=None)
    assert "No latent fired often enough to be measured, so there is no SI and no Q to report." in said
    assert "validated" not in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sae__fvu": 1.31, "sae__explained_variance": -0.31}, "FVU is 1.31: the SAE reconstructs worse"),
        (
            {"sae__fvu": 0.7, "sae__explained_variance": 0.3},
            "explains only 30 % of the variance (below 50 %)",
        ),
        ({"lm__ce_score": 0.62}, "The CE score is 0.620 (below 0.8)"),
        ({"sae__variance_top_tokens": 0.43}, "largest norm carry 43 % of the variance"),
        ({"features__supported": 100}, "Only 100 of 4,096 latents have enough support"),
        ({"q__null_edges": 2000}, "Randomised firing still yields 2,000 validated edges (real: 16,854)"),
    ],
)
def test_warnings_come_first(changes, words):
    sentences = told(**changes)
    assert sentences[0].kind == "warning"
    assert words in sentences[0].text
    assert [sentence.kind for sentence in sentences].count("warning") == 1


def test_bad_reconstruction_calls_si_and_q_uninterpretable():
    assert "uninterpretable" in text(sae__fvu=1.31, sae__explained_variance=-0.31)
    assert "explains none of the activation variance" in text(sae__fvu=1.31, sae__explained_variance=-0.31)


def test_warnings_of_the_run_are_passed_on_in_one_line():
    sentence = told({"state": "ok", "warnings": ["k=64 is larger than\nthe 32 it was trained with"]})[0]
    assert (sentence.kind, sentence.text) == ("warning", "k=64 is larger than the 32 it was trained with")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"q__modularity": 0.079, "q__p": 0.62, "q__z": -0.7}, "no more than its degrees explain: 0.0801"),
        ({"q__p": 0.00049, "q__rewirings": 9999}, "(z = 187, p < 0.001)"),
        ({"q__z": None}, "(p ≤ 1/21)"),
        ({"q__null_mean": None}, "no null was computed, so it cannot be told from chance"),
        ({"q__null_edges": None}, "not checked against randomised firing"),
        ({"q__null_edges": 1}, "(1 survives randomised firing)"),
        ({"q__modularity": None}, "but no modularity: no reason recorded"),
        ({"q__within_task": 0.2}, "Within tasks Q falls to 0.200, so part of it is the task mix."),
        ({"q__within_task": 0.02}, "Within tasks Q falls to 0.0200: nearly all of it is the task mix."),
        ({"q__ami_task": 0.7}, "agrees closely"),
        ({"si__null_mean": None}, "no null was computed"),
        ({"si__ci_low": None}, "Their mean SI is 0.181; shuffled"),
        ({"q__naive": None}, "For comparison only: naive SI 0.271 —"),
    ],
)
def test_wording_follows_the_numbers(changes, words):
    assert words in text(**changes)


def test_rates_and_words_are_said_where_they_were_measured():
    assert "Averaged by rate" not in text()  # a run of an earlier version
    assert "Given the token" not in text()
    said = text(
        si__mutual_info=0.094, si__mutual_info_null_mean=0.0014, si__beyond_token_mean=0.0713,
        si__beyond_token_null_mean=0.0012, si__lexical_share=0.583,
    )  # fmt: skip
    assert "one firing tells of its task, SI is 0.0940; shuffled task labels give 0.00140." in said
    assert "Of the SI, 58 % is vocabulary: token ids alone give that much of its excess." in said
    assert "Beyond words: given the token, mean SI is 0.0713 (by chance 0.00120)." in said
    assert "Beyond words: given the last two tokens 0.0500." in text(si__beyond_bigram_mean=0.05)


def test_what_tells_a_trained_sae_from_a_control_comes_first():
    values = {
        "si/mutual_info": 0.166, "si/mutual_info_ci_low": 0.16, "si/mutual_info_ci_high": 0.17,
        "si/lexical_share": 0.58, "si/beyond_token_mean": 0.084, "causal/ratio": 44.0,
        "causal/ratio_over_norm": 2.4, "causal/ratio_matched": 0.94,
        "q/within_token": 0.369, "q/within_token_null_mean": 0.166,
        "q/lexical": 0.359, "q/word_share": 0.86,
    }  # fmt: skip
    beside = ["Beside random SAE: Q is 0.1 above."]
    sentences = [str(sentence) for sentence in headline(metrics() | values, STATUS, {}, beside)]
    starts = (
        "Averaged by rate, what one firing tells of its task, SI is 0.166 (95 % CI 0.160–0.170)",
        "Of the SI, 58 % is vocabulary",
        "Beside random SAE",
        "Beyond words",
        "Taking out a task's most specialised latents changes what the model predicts there 44.0 times",
        "Joint firing that token ids do not explain has modularity Q = 0.369, against 0.166",
        "Firings dealt anew among the occurrences of their token give a plain Q of 0.359; "
        "of the joint firing above chance, 86 % is vocabulary.",
        "83 % of the",
    )
    for sentence, start in zip(sentences, starts, strict=False):
        assert sentence.startswith(start), (sentence, start)
    assert (
        "2.40 times what the size of the removed part explains; random latents of equal density: 0.940"
        in sentences[4]
    )
    assert "lose" not in sentences[4]
    nothing = {"causal/own_ce_ci_low": -0.002}
    lost = [str(sentence) for sentence in headline(metrics() | values | nothing, STATUS, {}, beside)]
    assert lost[4] == sentences[4].rstrip(".") + "; but the task loses nothing beyond noise."
    assert sentences[-1].startswith("For comparison only")


def test_no_naive_numbers_no_comparison():
    assert all(sentence.kind == "finding" for sentence in told(q__naive=None, si__naive_mean=None))


def test_fdr_level_comes_from_the_config():
    assert "FDR 1 %" in text(config={"metrics": {"si_fdr": 0.01}})


def test_empty_metrics_still_say_something():
    assert [str(sentence) for sentence in headline({}, {})] == [
        "No latent fired often enough to be measured, so there is no SI and no Q to report."
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"), (float("nan"), "—"), (float("inf"), "—"), (True, "—"), (0, "0"), (0.0, "0"),
        (0.36, "0.360"), (0.00612, "0.00612"), (2.1e-7, "2.1e-07"), (31.9, "31.9"), (186.8, "187"),
        (16854, "16,854"), (99.97, "100"), (-0.0312, "-0.0312"),
        (np.float32(0.25), "0.250"), (np.int64(5), "5.00"),
    ],
)  # fmt: skip
def test_figure(value, shown):
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (None, "—"), (0, "0 %"), (0.0002, "< 0.1 %"), (0.031, "3.1 %"), (0.0996, "10 %"), (0.8314, "83 %"),
        (0.996, "99.6 %"), (0.9999, "> 99.9 %"), (1, "100 %"), (0.05, "5 %"),
    ],
)  # fmt: skip
def test_percent(share, shown):
    assert percent(share) == shown


def test_other_numbers():
    assert (count(np.int64(16854)), count(None)) == ("16,854", "—")
    assert p_value(0.0002, None) == "p < 0.001"
    assert (p_value(0.0476, None), p_value(None, 20)) == ("p = 0.048", "p not known")
    assert (seconds(48.3), seconds(725), seconds(12000)) == ("48.3 s", "12 min 5 s", "3 h 20 min")


@pytest.mark.parametrize(
    ("reached", "draws", "shown"),
    [(0, 20, "p ≤ 1/21"), (1, 20, "p = 0.095"), (0, 10_000, "p ≤ 1/10,001"), (1, 10_000, "p < 0.001")],
)
def test_a_p_at_its_floor_is_an_upper_bound(reached, draws, shown):
    assert p_value((1 + reached) / (draws + 1), draws) == shown


def test_q_at_the_floor_of_its_rewirings_is_no_exact_p():
    assert "(z = 187, p ≤ 1/21)" in text(q__p=1 / 21, q__rewirings=20)
    assert "(z = 187, p = 0.048)" in text(q__p=1 / 21, q__rewirings=99)


@pytest.mark.parametrize(
    "config", [{"sae": {"source": "random"}}, {"sae": {"source": "hub"}, "model": {"random_init": True}}]
)
def test_a_control_is_not_called_uninterpretable(config):
    bad = {"sae__fvu": 1.31, "sae__explained_variance": -0.31, "lm__ce_score": 0.1}
    assert "uninterpretable" not in text(config=config, **bad)
    assert "uninterpretable" in text(config={"sae": {"source": "hub"}}, **bad)


def test_control_characters_are_visible():
    assert visible("a\n\tb\x00\x7f") == "a↵⇥b␀␡"


def test_of_many_controls_the_headline_names_three():
    beside = [f"Beside control {number}: Q is 0.1 above." for number in range(11)]
    sentences = headline(metrics(), STATUS, {}, beside)
    kinds = [sentence.kind for sentence in sentences if sentence.text in beside]
    assert kinds == ["finding"] * 3 + ["beside"] * 8
