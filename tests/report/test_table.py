"""Columns of sweep.csv: whole numbers stay whole where a job has none."""

import pandas as pd

from saescope.report.sweep.table import frame, write_table


def test_a_missing_value_does_not_make_whole_numbers_fractions(tmp_path):
    rows = [
        {"sae.tokens": 1_000_000, "si/mean": 0.5, "sae.multi_topk": True, "error": "", "q/z": None},
        {"sae.tokens": None, "si/mean": None, "sae.multi_topk": None, "error": "lost", "q/z": None},
    ]
    write_table(frame(rows), tmp_path)
    header, first, second = (tmp_path / "sweep.csv").read_text().splitlines()
    assert header == "sae.tokens,si/mean,sae.multi_topk,error,q/z"
    assert (first, second) == ("1000000,0.5,True,,", ",,,lost,")
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert table["sae.tokens"].tolist()[0] == 1_000_000
    assert pd.isna(table["sae.tokens"][1])
    assert table["si/mean"].dtype == "float64"
