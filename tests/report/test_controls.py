import pytest

from saescope.report.controls import control_labels, control_name


@pytest.mark.parametrize(
    ("sae", "model", "provenance", "name"),
    [
        ({"source": "train"}, {}, {}, ""),
        ({"source": "hub", "k": 16}, {"random_init": False}, {"source": "hub"}, ""),
        ({"source": "random"}, {}, {}, "random SAE"),
        ({"source": "neurons"}, {"random_init": True}, {}, "neurons on random weights"),
        ({"source": "train"}, {"random_init": True}, {}, "random weights"),
        ({"source": "train", "freeze": "none"}, {}, {}, ""),
        ({"source": "train", "freeze": "decoder"}, {}, {}, "frozen decoder"),
        ({"source": "later"}, {}, {"control": True}, "sae=later"),
        (None, None, {}, ""),
    ],
)
def test_controls_are_known_from_the_facts_of_the_folder(sae, model, provenance, name):
    assert control_name(control_labels({"sae": sae, "model": model}, provenance)) == name
