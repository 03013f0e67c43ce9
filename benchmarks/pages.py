"""Sizes of the pages, seconds to write and to open them in Chromium, of a large synthetic run or of yours.

    python benchmarks/pages.py                    # 131,072 latents, 2M edges
    python benchmarks/pages.py --even             # almost all of them supported
    python benchmarks/pages.py RUN SWEEP …        # the pages that these folders have

The synthetic run is written by the product's own writers: contexts from codes with Zipf rates (zipf.py),
edges within and between planted communities. A page counts as open at the first picture after it has loaded,
`features.html` at the first row of its table and at the contexts of one latent, each in a new browser.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from zipf import TASKS, zipf_codes

from saescope.analysis.examples import AFTER, BEFORE, COLUMNS
from saescope.analysis.latent_contexts import find_contexts, strings_of
from saescope.extraction.codes import Codes
from saescope.report import write_report
from saescope.runfolder.names import FEATURES_PAGE, FEATURES_SHARDS, REPORT, SWEEP_HTML
from saescope.runfolder.status import write_status
from saescope.runfolder.write import Results, write_results
from saescope.stats.specialization import naive_specialization
from saescope.text.windows import Windows

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.report.devtools import Tab

CONTEXT, VOCABULARY, COMMUNITIES = 128, 50_000, 64
OPEN = {
    FEATURES_PAGE: "document.querySelector('#list tbody tr') && document.querySelector('#latent .spans li')"
}
"""When a page is more than loaded."""
TARGETS = {FEATURES_PAGE: (25, 2)}
"""MB and seconds that a page may have at 131,072 latents."""


def synthetic(folder: Path, latents: int, tokens: int, edges: int, even: bool) -> None:
    """A run folder before its pages; `even`: latents equally frequent, so that almost all are supported."""
    rng = np.random.default_rng(0)
    drawn = zipf_codes(tokens, latents, boost=0.0, power=0.0) if even else zipf_codes(tokens, latents)
    task_D = drawn.documents[2].astype(np.int64)
    tasks = tuple(f"task{number}" for number in range(TASKS))
    acts = rng.gamma(2.0, 1.0, len(drawn.active_NF.indices)).astype(np.float32)
    starts = np.flatnonzero(np.diff(drawn.doc_N, prepend=-1))
    position_N = np.arange(tokens) - starts[drawn.doc_N]
    codes = Codes(
        drawn.active_NF.indptr.astype(np.int64), drawn.active_NF.indices, acts, drawn.doc_N.astype(np.int32),
        position_N.astype(np.int32), drawn.doc_N.astype(np.int32), task_D, tasks, latents,
    )  # fmt: skip
    ids = np.minimum(rng.zipf(1.2, tokens), VOCABULARY) - 1
    windows = Windows(
        list(np.split(ids.astype(np.int32), starts[1:])), [np.ones(CONTEXT, bool)] * len(starts),
        np.arange(len(starts)), np.zeros(len(starts), np.int64), task_D, tasks, 0, {},
    )  # fmt: skip
    counts_FK = np.stack(
        [np.asarray(drawn.active_NF[drawn.task_N == task].sum(0)).ravel() for task in range(TASKS)], axis=1
    )
    count_F = counts_FK.sum(1)
    supported = count_F >= 50
    live = np.flatnonzero(supported)
    rate_FK = counts_FK / np.bincount(drawn.task_N, minlength=TASKS)
    community = np.where(supported, rng.integers(COMMUNITIES, size=latents), -1)
    si_F = naive_specialization(counts_FK)
    features = pd.DataFrame(
        {
            "latent": np.arange(latents), "count": count_F, "docs": np.minimum(count_F, len(starts)),
            "density": count_F / tokens, "mean_act": np.where(count_F > 0, 2.0, np.nan),
            "max_act": np.where(count_F > 0, 12.0, np.nan), "alive": count_F > 0, "supported": supported,
            "si": np.where(supported, si_F, np.nan), "si_naive": si_F,
            "si_null": np.where(supported, 0.01, np.nan),
            "si_excess": np.where(supported, si_F - 0.01, np.nan),
            "si_p": np.where(supported, 0.001, np.nan), "si_q": np.where(supported, 0.002, np.nan),
            "top_task": np.where(supported, np.array(tasks)[rate_FK.argmax(1)], None),
            **{f"rate_{task}": rate_FK[:, at] for at, task in enumerate(tasks)},
            "community": community, "degree": np.where(supported, 2 * edges // max(1, len(live)), 0),
        }
    )  # fmt: skip
    by_community = live[np.argsort(community[live], kind="stable")]
    ends = pairs(by_community, edges, rng)
    contexts = find_contexts(codes, windows, live.tolist())
    arrays = {name: np.asarray(value) for name, value in vars(contexts).items() if name != "tokens"}
    arrays |= {"tokens": np.array([contexts.tokens, tokens]), "span": np.array([BEFORE, AFTER])}
    arrays["nearest_LN"] = rng.choice(live, (len(live), 5)).astype(np.int32)
    arrays["nearest_cosine_LN"] = rng.random((len(live), 5)).astype(np.float16)
    for name in ("promoted", "suppressed"):
        arrays[f"{name}_LT"] = rng.integers(VOCABULARY, size=(len(live), 8)).astype(np.int32)
        arrays[f"{name}_z_LT"] = rng.normal(5, 1, (len(live), 8)).astype(np.float16)
    named = ("id_R", "frequent_LT", "promoted_LT", "suppressed_LT")
    vocabulary, words = strings_of(
        np.concatenate([arrays[name].ravel() for name in named]).astype(np.int32), lambda ids: word(ids[0])
    )
    for name in named:
        arrays[name] = np.where(arrays[name] < 0, -1, np.searchsorted(vocabulary, arrays[name])).astype(
            np.int32
        )
    arrays["vocabulary_V"] = vocabulary
    shared = np.linspace(0, 1, 51)
    histogram = {"edges": shared.tolist(), "counts": np.histogram(si_F[live], shared)[0].tolist()}
    metrics = {f"task/{task}/tokens": int((drawn.task_N == at).sum()) for at, task in enumerate(tasks)} | {
        "features/num_latents": latents, "features/supported": len(live), "si/mean": float(si_F[live].mean()),
        "si/null_mean": 0.01, "q/n_edges": ends.shape[1], "q/n_communities": COMMUNITIES,
    }  # fmt: skip
    results = Results(
        metrics=metrics, notes={}, warnings=[], features=features,
        edges=pd.DataFrame({"source": ends[0], "target": ends[1], "joint": 9,
                            "pmi": rng.gamma(2.0, 0.5, ends.shape[1]), "p": 1e-6}),
        examples=examples(features, codes, tasks), histograms={"si": histogram},
        provenance={"model": {"name": "synthetic"}}, latents=(arrays, words),
    )  # fmt: skip
    write_results(folder, results, config={}, tracking={})
    write_status(folder, "ok", notes={}, warnings=["synthetic: it says nothing about any model"])


def pairs(ordered: np.ndarray, edges: int, rng: np.random.Generator) -> np.ndarray:
    """`[2, edges]` different pairs of latents that stand in order of their communities, most within one."""
    ends = np.empty((2, 0), ordered.dtype)
    while ends.shape[1] < edges:
        drawn = edges - ends.shape[1]
        first = rng.integers(len(ordered), size=drawn)
        near = rng.normal(0, len(ordered) / COMMUNITIES / 4, drawn).astype(int)
        far = rng.integers(len(ordered), size=drawn)
        second = np.where(rng.random(drawn) < 0.7, np.clip(first + near, 0, len(ordered) - 1), far)
        new = np.sort(np.stack([ordered[first], ordered[second]]), axis=0)
        ends = np.unique(np.hstack([ends, new[:, new[0] != new[1]]]), axis=1)
    return ends


def word(number: int) -> str:
    """A word of the made-up vocabulary, short where it is frequent."""
    letters = ""
    while number:
        number, at = divmod(number, 26)
        letters += chr(97 + at)
    return " " + (letters or "a")


def examples(features: pd.DataFrame, codes: Codes, tasks: tuple[str, ...]) -> pd.DataFrame:
    """Eight contexts of each of eight latents a task, as `examples.parquet` has them."""
    rows = []
    for task in tasks:
        best = features[features.top_task == task].sort_values("si", ascending=False).head(8)
        for latent in best.latent:
            for rank in range(8):
                rows.append(
                    (latent, rank, task, rank, 7, 9.0 - rank, " token", "some words before", " and after")
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def measured(page: Path, rounds: int) -> tuple[float, float]:
    """MB of a page, and the median of the seconds until it is open."""
    fragment = ""
    if page.name == FEATURES_PAGE:
        features = pd.read_parquet(page.parent / "features.parquet", columns=["latent", "supported"])
        fragment = f"latent-{features[features.supported].latent.iloc[-1]}"
    seconds = []
    for _ in range(rounds):
        with Tab(page, fragment, ready=OPEN.get(page.name, "")) as tab:
            seconds.append(tab.seconds)
            assert [
                address for address in tab.requests if not address.startswith(("file:", "data:", "blob:"))
            ] == []
    return page.stat().st_size / 1e6, float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, help="run and sweep folders; default: the synthetic run"
    )
    parser.add_argument("--latents", type=int, default=131_072)
    parser.add_argument("--tokens", type=int, default=300_000 // CONTEXT * CONTEXT)
    parser.add_argument("--edges", type=int, default=2_000_000)
    parser.add_argument("--even", action="store_true", help="make almost all latents supported")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="leave the synthetic run in this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = args.folders
        if not folders:
            folder = args.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            synthetic(folder, args.latents, args.tokens, args.edges, args.even)
            start = time.perf_counter()
            write_report(folder)
            print(f"pages written in {time.perf_counter() - start:.1f} s")
            folders = [folder]
        print(f"\n{'page':<44}{'MB':>7}{'opens, s':>10}")
        for folder in folders:
            for page in (folder / name for name in (REPORT, FEATURES_PAGE, SWEEP_HTML)):
                if page.is_file():
                    size, seconds = measured(page, args.rounds)
                    limit = TARGETS.get(page.name)
                    short = "  falls short" if limit and (size > limit[0] or seconds > limit[1]) else ""
                    print(f"{folder.name + '/' + page.name:<44}{size:>7.2f}{seconds:>10.2f}{short}")
            beside = [script.stat().st_size for script in (folder / FEATURES_SHARDS).glob("*.js")]
            if beside:
                name = f"{folder.name}/{FEATURES_SHARDS}/, {len(beside)} files"
                print(f"{name:<44}{sum(beside) / 1e6:>7.2f}")


if __name__ == "__main__":
    main()
