"""The rows of a sweep: one a job, failed jobs too, and the two files they are written to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saescope.files import whole
from saescope.report.sweep.comparable import Group
from saescope.report.sweep.settings import MAIN, settings, varies
from saescope.runfolder.names import SWEEP_CSV, SWEEP_PARQUET
from saescope.runfolder.run import Run
from saescope.runfolder.sweep import job_name

if TYPE_CHECKING:
    import pandas as pd


def job_rows(
    jobs: Sequence[Run], groups: Sequence[Group], matched: Sequence[dict[str, Any]], out: Path
) -> list[dict[str, Any]]:
    """One mapping a job, column → value.

    Names with a slash are metric keys, names with a dot settings. `group` is the letter of the job's
    comparable group, empty for a job that did not finish; `control` is left to the comparison.
    """
    letter = {at: group.name for group in groups for at in group.members}
    metrics = list(dict.fromkeys(key for job in jobs if job.ok for key in job.metrics))
    job_settings = [settings(job) for job in jobs]
    main = list(MAIN) + [
        key
        for key in dict.fromkeys(key for values in job_settings for key in values)
        if key not in MAIN and "." in key
    ]
    # a setting that is the same everywhere is in config.yaml; here it would only widen the table
    shown = [key for key in main if key in MAIN or varies(job_settings, key)]
    return [
        {
            "job": job_name(job.path, out),
            "state": job.state,
            "error": job.error,
            "overrides": " ".join(job.overrides),
            "identity": job.identity,
            "group": letter.get(at, ""),
            "control": "",
            **{key: job_settings[at].get(key) for key in shown},
            **matched[at],
            "within_noise": "",
            **{key: job.metrics.get(key) if job.ok else None for key in metrics},
        }
        for at, job in enumerate(jobs)
    ]


def frame(rows: Sequence[dict[str, Any]]) -> "pd.DataFrame":
    """The rows with one type a column, as parquet wants it."""
    import pandas as pd

    table = pd.DataFrame(list(rows), dtype=object)  # else None makes whole numbers floats
    for name in table.columns:
        kinds = {type(value) for value in table[name] if value is not None and value == value}
        if kinds <= {int} and kinds:
            table[name] = table[name].astype("Int64")
        elif kinds <= {int, float}:
            table[name] = pd.to_numeric(table[name]).astype("float64")
        elif kinds == {bool}:
            table[name] = table[name].astype("boolean")
        else:
            table[name] = pd.Series(
                [None if v is None or v != v else str(v) for v in table[name]], dtype="string"
            )
    return table


def write_table(table: "pd.DataFrame", out: Path) -> tuple[Path, Path]:
    """`sweep.csv` and `sweep.parquet`."""
    with whole(out / SWEEP_CSV) as temporary:
        table.to_csv(temporary, index=False)
    with whole(out / SWEEP_PARQUET) as temporary:
        table.to_parquet(temporary, index=False)
    return out / SWEEP_CSV, out / SWEEP_PARQUET
