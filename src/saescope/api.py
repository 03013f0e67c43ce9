"""What a notebook uses: load a model and an SAE, capture activations, measure (`import saescope`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import yaml
from torch import Tensor

from saescope.activations import LiveWindows
from saescope.analysis.features import FeatureResults
from saescope.analysis.features import analyse as analyse_codes
from saescope.analysis.reconstruction import null_notes, reconstruction_metrics, task_metrics
from saescope.config import (
    HookpointConfig,
    HubSae,
    MetricsConfig,
    ModelConfig,
    ProbesConfig,
    RuntimeConfig,
    SaeLensSae,
    config_dir,
    from_mapping,
)
from saescope.errors import ModelError, ProbeError, SaeError, choices
from saescope.extraction.accumulators import CodeRows
from saescope.extraction.codes import Codes, assemble
from saescope.extraction.encoding import Encoding
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint, resolve
from saescope.model.load import LanguageModel, quiet_transformers
from saescope.model.load import load_model as load_language_model
from saescope.model.proof import proved_width
from saescope.runtime.hardware import choose
from saescope.runtime.meter import Meter, Steps
from saescope.sae.base import Sae
from saescope.sae.factory import load as load_any_sae
from saescope.sae.python_target import wrap
from saescope.sae.stored import load_stored
from saescope.text.documents import Document, Part, Probes, Task, task_name
from saescope.text.windows import Windows, tokenize_probes

ROWS = 8192
"""Tokens read or encoded at once."""

Texts = Mapping[str, Sequence[str]]
Labels = Sequence[Any] | npt.NDArray[Any] | Tensor


def load_model(
    name: str = "embedded",
    *,
    revision: str | None = None,
    random_init: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    seed: int = 0,
) -> LanguageModel:
    """A frozen causal language model with its tokenizer.

    Args:
        name: `embedded` (inside the package), an option of the config group `model` (`pythia-70m`), a Hugging
            Face folder, or a Hub id.
        revision: branch, tag or commit on the Hub.
        random_init: the same architecture with random weights, drawn from `seed`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        dtype: `auto` (bfloat16 where the hardware multiplies it natively), `float32`, `bfloat16`, `float16`.
        seed: of random weights.

    Returns:
        A `LanguageModel`: `.model` (a `transformers.PreTrainedModel`), `.tokenizer`, `.name`.

    Raises:
        ModelError: the model cannot be loaded. ConfigError: there is no such device.

    Example:
        >>> lm = saescope.load_model("embedded", device="cpu")
        >>> lm.model.config.hidden_size
        128
    """
    quiet_transformers()
    option_file = Path(config_dir()) / "model" / f"{name}.yaml"
    is_option = "/" not in name and option_file.is_file()
    option = yaml.safe_load(option_file.read_text(encoding="utf-8")) if is_option else {}
    values = {"name": name, **{key: value for key, value in option.items() if value != "???"}}
    overrides = {"revision": revision, "random_init": random_init or None}
    values |= {key: value for key, value in overrides.items() if value is not None}
    machine = choose(RuntimeConfig(device=device, dtype=dtype))
    lm = load_language_model(from_mapping(ModelConfig, values, "model."), machine.dtype, seed)
    lm.model.to(machine.device)
    return lm


def load_sae(
    source: str | Path,
    hookpoint: str,
    *,
    k: int | None = None,
    revision: str | None = None,
    id: str | None = None,
    model: LanguageModel | None = None,
) -> Sae:
    """A pre-trained SAE.

    Args:
        source: a Hub repository or folder in sparsify layout (also `<run folder>/sae`) or another format that
            docs/saes.md lists; with `id` a release of sae_lens, a Hub repository or a folder in its layout.
        hookpoint: where it reads, such as `layers.3.mlp`.
        k: active latents per token; None: as trained.
        revision: branch, tag or commit of the repository (sparsify layout).
        id: the SAE in a SAELens release; for a folder of a single SAE `"."`.
        model: the language model it is for: its width is checked, and the SAE multiplies in its precision, as
            in a job. Needed with `id`. None: float32, on the CPU.

    Returns:
        An `Sae`: `.encode(x_ND)`, `.decode(codes)`, `.num_latents`, `.d_in`, `.k`, on the model's device.

    Raises:
        SaeError: it is not there, cannot be read, or does not fit the model.
        HubError: the Hub gives no answer.
        HookpointError: the model has no such hookpoint.

    Example:
        >>> sae = saescope.load_sae("embedded", "layers.2")
        >>> sae.num_latents, sae.d_in
        (1024, 128)
    """
    place = None if model is None else _hookpoint(hookpoint, model)
    cfg: HubSae | SaeLensSae = HubSae(repo=str(source), revision=revision, k=k)
    if id is not None:
        cfg = SaeLensSae(release=str(source), id=None if id == "." else id, k=k)
    if model is None or place is None:
        if isinstance(cfg, SaeLensSae):
            raise SaeError("a SAELens SAE names its own hookpoint in a model: give model=load_model(…)")
        return load_stored(str(source), cfg, d_in=None, hookpoint=hookpoint, dtype=torch.float32)
    sae = load_any_sae(
        cfg,
        d_in=Capture(model.model, place).width(),
        hookpoint=place.label,
        model_sae_repo=None,
        model_name=model.name,
        dtype=model.model.dtype,
        at=place,
        model=model.model,
    )
    return sae.to(model.model.device)


@dataclass(frozen=True)
class Activations:
    """Activations of N counted tokens of labelled texts, in document order: what `capture` gives.

    Example:
        >>> x.hookpoint, len(x.values) == len(x.tasks) == len(x.documents) == len(x.token_ids)
        ('layers.2', True)
    """

    values: Tensor
    """[N, d_in], float32, on the CPU."""

    tasks: npt.NDArray[np.str_]
    """[N]: task label of each token."""

    documents: npt.NDArray[np.int64]
    """[N]: document of each token, 0-based over all tasks."""

    token_ids: npt.NDArray[np.int64]
    """[N]: token ids."""

    hookpoint: str
    """Where they were read, such as `layers.3`."""

    windows: Windows
    """The contexts the model saw."""


def capture(
    model: LanguageModel,
    texts: Texts | str | Path,
    hookpoint: str,
    *,
    ctx_len: int = 256,
    exclude_first: int = 1,
    max_tokens_per_task: int = 50_000,
    duplicates: str = "merge",
    batch_tokens: int = 2048,
) -> Activations:
    """Activations of labelled texts at one hookpoint; blocks above it are not run.

    Args:
        model: from `load_model`.
        texts: task label → documents; or `"embedded"`; or a folder with one file or one folder per task.
        hookpoint: any spelling, such as `layers.3`, `layers.3.mlp`, `blocks.3.hook_resid_post`.
        ctx_len: tokens per context; longer documents become several.
        exclude_first: positions at the start of every context that do not count.
        max_tokens_per_task: reading stops before the document that would exceed it.
        duplicates: documents that repeat one of their task are one document with it (`merge`), or only named
            in `windows.warnings` (`warn`), or kept silently (`keep`).
        batch_tokens: tokens per forward pass.

    Raises:
        HookpointError: the model has no such hookpoint. ProbeError: a task without a counted token, or fewer
        than two tasks.

    Example:
        >>> texts = {"sums": [f"{n} + 1 = {n + 1}" for n in range(12)], "prose": ["Once upon a time"]}
        >>> activations = saescope.capture(lm, texts, "layers.2")
        >>> activations.values.shape[1], sorted(set(activations.tasks.tolist()))
        (128, ['prose', 'sums'])
    """
    place = _hookpoint(hookpoint, model)
    kind = "folder" if isinstance(texts, Mapping) or str(texts) != "embedded" else "embedded"
    cfg = ProbesConfig(
        kind,
        path=None if kind == "embedded" else str(texts if not isinstance(texts, Mapping) else "."),
        ctx_len=ctx_len,
        exclude_first=exclude_first,
        max_tokens_per_task=max_tokens_per_task,
        duplicates=duplicates,
    )
    probes = _labelled(texts) if isinstance(texts, Mapping) else None
    windows = tokenize_probes(cfg, model.tokenizer, probes)
    reader = Capture(model.model, place)
    live = LiveWindows(reader, windows, batch_tokens, model.model.device, proved_width(reader))
    parts: list[Tensor] = []
    with Meter("capture", windows.num_tokens, "tokens") as meter:
        for rows in np.array_split(np.arange(len(windows.ids)), max(1, windows.num_tokens // ROWS)):
            parts.append(live.read(rows).float().cpu())
            meter.advance(len(parts[-1]))
    sizes_W = live.sizes_R
    tasks = np.array(windows.tasks)[windows.task_D[windows.doc_W]]
    return Activations(
        torch.cat(parts),
        np.repeat(tasks, sizes_W),
        np.repeat(windows.doc_W, sizes_W),
        windows.token_N.astype(np.int64),
        place.label,
        windows,
    )


def extract(
    activations: Activations | Tensor | npt.NDArray[Any],
    sae: Any,
    tasks: Labels | None = None,
    documents: Labels | None = None,
) -> Codes:
    """Sparse codes of labelled activations: which latent fires where, and how strongly.

    Arguments and errors as in `measure`.

    Example:
        >>> codes = saescope.extract(x, saescope.load_sae("embedded", "layers.2"))
        >>> codes.count_F.shape
        (1024,)
    """
    return _encode(activations, sae, tasks, documents, None).codes


def analyse(codes: Codes, *, seed: int = 0, **settings: Any) -> FeatureResults:
    """Feature statistics, SI with its null and interval, Q with its nulls.

    Args:
        codes: from `extract`.
        seed: of permutations, bootstraps, graph nulls and Leiden.
        settings: keys of the config group `metrics`, such as `permutations=200`, `min_count=20`.

    Returns:
        A `FeatureResults`: `.metrics` (`features/*`, `si/*`, `q/*`), `.features` (a row per latent),
        `.edges`, `.notes` (why a metric is null).

    Raises:
        ConfigError: a setting that does not exist or is out of range.

    Example:
        >>> results = saescope.analyse(codes, permutations=20, bootstraps=20, document_groups=0)
        >>> results.metrics["features/num_latents"]
        1024
    """
    with Steps("statistics") as steps:
        return analyse_codes(codes, from_mapping(MetricsConfig, settings, "metrics."), seed, steps)


@dataclass(frozen=True)
class Measurement:
    """Metrics and tables of one SAE on labelled activations: what `measure` gives.

    Example:
        >>> sae = saescope.load_sae("embedded", "layers.2")
        >>> result = saescope.measure(x, sae, permutations=20, bootstraps=20)
        >>> result.features.columns[:3].tolist(), result.edges.columns.tolist()
        (['latent', 'count', 'docs'], ['source', 'target', 'joint', 'pmi', 'p', 'rank_tail'])
    """

    metrics: Mapping[str, float | None]
    """`sae/*`, `features/*`, `si/*`, `q/*`, `task/*` as in `metrics.json`; None where one does not apply."""

    notes: Mapping[str, str]
    """Why a metric is None, by key."""

    features: pd.DataFrame
    """One row per latent, the columns of `features.parquet`."""

    edges: pd.DataFrame
    """Validated edges between latents, the columns of `edges.parquet`."""

    codes: Codes
    """Which latent fires where."""


def measure(
    activations: Activations | Tensor | npt.NDArray[Any],
    sae: Any,
    tasks: Labels | None = None,
    documents: Labels | None = None,
    *,
    target: Tensor | npt.NDArray[Any] | None = None,
    seed: int = 0,
    **settings: Any,
) -> Measurement:
    """Specialisation (SI) and modularity (Q) of any SAE on your own activations.

    Args:
        activations: [N, d_in] floats, one row per token; or from `capture`.
        sae: an object with `encode(x)` → `top_acts, top_indices` [N, k] or a dense code [N, num_latents], and
            with `decode`; see `saescope.UserSae`. Or one from `load_sae`.
        tasks: [N] label of each token; left out when `activations` come from `capture`.
        documents: [N] document of each token (any ids). Permutations and intervals are over documents, so
            give real ones; a document belongs to one task.
        target: [N, d_in], for a transcoder: what its reconstruction is compared with.
        seed: of permutations, bootstraps, graph nulls and Leiden.
        settings: keys of the config group `metrics`, such as `permutations=200`; `document_groups` and
            `matched_draws`, which only sweeps read, are 0 unless given.

    Returns:
        A `Measurement`: `.metrics`, `.features`, `.edges`, `.notes`, `.codes`.

    Raises:
        ProbeError: lengths differ, a document has two tasks, or there are fewer than two tasks.
        SaeError: the SAE returns invalid codes or reconstructions. ModelError: NaN or infinite activations.
        ConfigError: a setting that does not exist.

    Example:
        >>> sae = saescope.load_sae("embedded", "layers.2")
        >>> result = saescope.measure(x, sae, permutations=20, bootstraps=20)
        >>> sorted(result.metrics)[:3]
        ['features/alive_frac', 'features/dead_frac', 'features/density_gt_10pct_frac']
    """
    # what only sweeps read is left out
    settings = {"document_groups": 0, "matched_draws": 0, **settings}
    cfg = from_mapping(MetricsConfig, settings, "metrics.")
    encoded = _encode(activations, sae, tasks, documents, target)
    codes = encoded.codes
    results = analyse_codes(codes, cfg, seed)
    per_task = task_metrics(codes.tasks, encoded.sums, None, codes.tokens_D, codes.task_D)
    metrics = {
        **reconstruction_metrics(encoded.sums),
        **{key: value for key, value in per_task.items() if not key.endswith(("/ce", "/ce_delta"))},
        **results.metrics,
    }
    return Measurement(metrics, null_notes(metrics, results.notes), results.features, results.edges, codes)


@dataclass(frozen=True)
class _Encoded:
    codes: Codes
    sums: dict[str, npt.NDArray[np.float64]]


def _encode(
    activations: Activations | Tensor | npt.NDArray[Any],
    sae: Any,
    tasks: Labels | None,
    documents: Labels | None,
    target: Tensor | npt.NDArray[Any] | None,
) -> _Encoded:
    """Codes and reconstruction sums of labelled activations."""
    labels = _Labels.of(activations, tasks, documents)
    values = activations.values if isinstance(activations, Activations) else activations
    x_ND = _matrix(values, "activations", len(labels.row_N))
    target_ND = x_ND if target is None else _matrix(target, "target", len(x_ND))
    coder = wrap(sae, d_in=x_ND.shape[1])
    if coder.transcodes and target is None:
        raise SaeError("this is a transcoder: give target=, the module's output [N, d_in] beside its input")
    from_text = activations if isinstance(activations, Activations) else None
    place = from_text.hookpoint if from_text else "the activations given"
    encoding = Encoding(coder, len(labels.tasks), place, len(x_ND))
    device = next((p.device for p in coder.parameters()), torch.device("cpu"))
    encoding.to(device)
    row_N, task_N = torch.from_numpy(labels.row_N), torch.from_numpy(labels.task_N)
    with Meter("encode", len(x_ND), "tokens") as meter, torch.inference_mode():
        for at in range(0, len(x_ND), ROWS):
            part = slice(at, at + ROWS)
            x = x_ND[part].to(device, torch.float32)
            y = x if target is None else target_ND[part].to(device, torch.float32)
            encoding.update(x, y, row_N[part], task_N[part].to(device))
            meter.advance(len(x))
    if len(bad := encoding.bad_rows.compute()):
        raise ModelError(
            f"NaN or infinite activations on {len(bad):,} of {len(x_ND):,} tokens at {place}; leave them out"
        )
    rows: CodeRows = encoding.codes.compute()
    codes = assemble(
        *rows,
        window_N=labels.doc_N,
        position_N=labels.position_N,
        doc_N=labels.doc_N,
        task_D=labels.task_D,
        tasks=labels.tasks,
        num_latents=coder.num_latents,
        token_N=labels.in_order(from_text.windows.token_N) if from_text else None,
        previous_N=labels.in_order(from_text.windows.previous_N) if from_text else None,
    )
    return _Encoded(codes, encoding.sums())


@dataclass(frozen=True)
class _Labels:
    """Labels of N tokens, and their order by task and document (the order of `Codes`)."""

    tasks: tuple[str, ...]
    """Task names, in order of first appearance."""
    task_N: npt.NDArray[np.int64]
    """Task of each token, in the order of the input."""
    row_N: npt.NDArray[np.int64]
    """Row of each token (input order) in document order."""
    doc_N: npt.NDArray[np.int64]
    """Document of each token, in document order."""
    position_N: npt.NDArray[np.int64]
    """Position of each token in its document, in document order."""
    task_D: npt.NDArray[np.int64]
    """Task of each document."""

    @classmethod
    def of(cls, activations: Any, tasks: Labels | None, documents: Labels | None) -> "_Labels":
        """Numbers for these labels, or for those of `activations` from `capture`. Raises ProbeError."""
        if isinstance(activations, Activations):
            if tasks is not None or documents is not None:
                raise ProbeError("these activations have their tasks and documents already; leave both out")
            tasks, documents = activations.tasks, activations.documents
        if tasks is None or documents is None:
            raise ProbeError(
                "give tasks and documents, one label of each per token: "
                "measure(activations, sae, tasks, documents)"
            )
        names, task_N = _numbered(tasks, "tasks")
        document_labels, raw_N = _numbered(documents, "documents")
        if len(task_N) != len(raw_N):
            raise ProbeError(f"{len(task_N)} task labels, but {len(raw_N)} document labels; one a token each")
        if len(names) < 2:
            raise ProbeError(f"SI compares tasks: two or more are needed, not {len(names)}")
        task_of_raw = np.full(len(document_labels), -1)
        task_of_raw[raw_N] = task_N
        if (mixed := np.flatnonzero(task_of_raw[raw_N] != task_N)).size:
            raise ProbeError(
                f"document {document_labels[raw_N[mixed[0]]]} has tokens of two tasks; "
                "a document belongs to one"
            )
        rank = np.empty(len(document_labels), dtype=np.int64)
        rank[np.argsort(task_of_raw, kind="stable")] = np.arange(len(document_labels))
        number_N = rank[raw_N]
        order = np.argsort(number_N, kind="stable")
        row_N = np.empty(len(order), dtype=np.int64)
        row_N[order] = np.arange(len(order))
        doc_N = number_N[order]
        position_N = np.arange(len(doc_N)) - np.searchsorted(doc_N, doc_N)
        labels = tuple(task_name(str(name)) for name in names)
        if len(set(labels)) < len(labels):
            raise ProbeError(
                f"two tasks have the same label once it is fit for a metric key: {choices(labels)}"
            )
        return cls(labels, task_N, row_N, doc_N, position_N, np.sort(task_of_raw, kind="stable"))

    def in_order(self, values_N: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """A value of each token in document order, from the order of the input."""
        ordered = np.empty_like(values_N)
        ordered[self.row_N] = values_N
        return ordered


def _numbered(labels: Labels, what: str) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """The distinct labels in order of first appearance, and the number of each token's label."""
    flat = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if flat.ndim != 1:
        raise ProbeError(f"{what} has shape {list(flat.shape)}; one label per token, [N], is expected")
    names, first, inverse = np.unique(flat, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return names[order].tolist(), number[inverse].astype(np.int64)


def _matrix(values: Any, what: str, tokens: int) -> Tensor:
    """[N, d_in] floats. Raises ProbeError for any other shape."""
    matrix: Tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    if matrix.ndim != 2 or not matrix.is_floating_point():
        raise ProbeError(
            f"{what}: {matrix.dtype} of shape {list(matrix.shape)}; "
            "floats [N, d_in], a row a token, are expected"
        )
    if len(matrix) != tokens:
        raise ProbeError(f"{what} has {len(matrix)} rows, but there are labels of {tokens} tokens")
    return matrix.detach()


def _hookpoint(name: str, model: LanguageModel) -> Hookpoint:
    return resolve(HookpointConfig("custom", name=name), model.model)


def _labelled(texts: Texts) -> Probes:
    """Texts in memory as a probe source."""
    if len(texts) < 2:
        raise ProbeError(f"SI compares tasks: texts of two or more are needed, not {len(texts)}")

    def task(label: str, documents: Sequence[str]) -> Task:
        name = task_name(label)
        if isinstance(documents, str):
            raise ProbeError(f"texts of {label}: a list of documents is expected, not one text")
        return Task(name, (Part(f"texts[{label!r}]", lambda: (Document(name, text) for text in documents)),))

    return Probes(tuple(task(str(label), documents) for label, documents in texts.items()), {})
