"""Jobs → `overlap.json` and `overlap.csv`."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

from saescope.files import write_json, write_text
from saescope.overlap.compare import Comparison, compare
from saescope.overlap.pairs import plan_pairs
from saescope.overlap.table import row_of, tables
from saescope.overlap.words import sentences_of
from saescope.runfolder.names import OVERLAP_CSV, OVERLAP_JSON
from saescope.runtime.meter import Meter

log = logging.getLogger(__name__)


def write_overlap(job_dirs: Sequence[Path], out: Path) -> list[str]:
    """Compare the SAEs of finished jobs pair by pair; write `out/overlap.json` and `out/overlap.csv`.

    A pair is two different SAEs of the same model, revision and hookpoint; at most `MAX_PAIRS` are compared.
    The JSON is a list of tables `{"title", "sentences", "columns", "rows"}`, empty when there is no pair; the
    first has the shares of all pairs as a `matrix` too.
    Returns the sentences, those on SAEs that could not be compared too.
    """
    plan = plan_pairs(job_dirs, out)
    comparisons: list[Comparison] = []
    with Meter("overlap", len(plan.pairs), "pairs", quiet=len(plan.pairs) < 2) as meter:
        for a, b in plan.pairs:
            try:
                comparisons.append(compare(a, b))
            except ValueError as error:
                plan.remarks.append(f"Left out of the overlap: {a.name} with {b.name}; {error}.")
            meter.advance(1)
    sentences = sentences_of(plan, comparisons)
    for sentence in sentences:
        log.info("%s", sentence)
    rows = [row_of(comparison) for comparison in comparisons]
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_text(out / OVERLAP_CSV, text.getvalue())
    write_json(out / OVERLAP_JSON, tables(comparisons, sentences) if comparisons else [])
    return sentences
