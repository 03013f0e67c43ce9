"""A W&B workspace as code: the sections in which a sweep is viewed, over the metric keys of `metrics.json`.

Needs the extra `workspaces` (wandb-workspaces). Offline the view is a JSON file beside the report; online it
is saved in the project too, one view per sweep, of the sweep's group only.
"""

import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.compat import number_panels, workspace_view
from saescope.files import write_json
from saescope.metrics import (
    COST_PEAK_MEM_MB,
    COST_TOKENS_PER_S,
    COST_WALL_S,
    DYNK_K_AT_PPL_1PCT,
    DYNK_K_AT_PPL_5PCT,
    FEATURES_ALIVE_FRAC,
    FEATURES_DEAD_FRAC,
    FEATURES_DENSITY_GT_1PCT_FRAC,
    FEATURES_DENSITY_GT_10PCT_FRAC,
    FEATURES_SUPPORTED,
    LM_CE,
    LM_CE_MEAN,
    LM_CE_SCORE,
    LM_CE_SPLICED,
    LM_CE_ZERO,
    LM_KL_SCORE,
    Q_AMI_TASK,
    Q_AMI_TASK_WITHIN,
    Q_EXCESS,
    Q_MODULARITY,
    Q_N_EDGES,
    Q_SEED_ARI,
    Q_TASK_PARTITION,
    Q_WITHIN_TASK,
    SAE_FVU,
    SAE_L0,
    SI_BEYOND_BIGRAM_MEAN,
    SI_BEYOND_TOKEN_MEAN,
    SI_CI_HIGH,
    SI_CI_LOW,
    SI_EXCESS,
    SI_LEXICAL_SHARE,
    SI_MEAN,
    SI_MUTUAL_INFO,
    SI_SIGNIFICANT_FRAC,
    Metric,
    shown,
)
from saescope.runfolder.names import WORKSPACE
from saescope.tracking.facts import key_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Axis:
    """A setting that the sweep varies."""

    setting: str
    """Its column of `sweep.csv`, such as `sae.k`."""
    numeric: bool = True
    """Whether its values are numbers: others cannot be an axis of a scatter plot, but can group bars."""
    log: bool = False
    """Whether it is drawn on a logarithmic axis."""
    repeats: bool = False
    """A seed: its values are repetitions of one condition."""

    @property
    def accessor(self) -> str:
        """Its column in the app: W&B keeps the value of a config key below `value`."""
        name, dot, rest = key_of(self.setting).partition(".")
        return f"config:{name}.value{dot}{rest}"


def write_workspace(
    folder: Path,
    *,
    entity: str,
    project: str,
    group: str,
    online: bool,
    axes: Sequence[Axis] = (),
    logged: Container[str] | None = None,
) -> str | None:
    """Write the view of `group` to `folder`, save it when online; its URL, or None.

    For `axes` and `logged` see `build`. Without the extra one log line says how to install it. Raises W&B's
    own error when a view cannot be saved.
    """
    try:
        view = build(entity, project, group, axes, logged)
    except ImportError:
        log.info("no W&B workspace: pip install 'saescope[workspaces]' (wandb-workspaces) makes one")
        return None
    write_json(folder / WORKSPACE, dump(view))
    if not online:
        return None
    view.save()
    return str(view.url)


def dump(view: Any) -> dict[str, Any]:
    """The view as W&B stores it, without login; `Workspace._from_model` reads it back."""
    return workspace_view(view)


def build(
    entity: str,
    project: str,
    group: str,
    axes: Sequence[Axis] = (),
    logged: Container[str] | None = None,
) -> Any:
    """The workspace of one sweep over `axes`. Raises ImportError without the extra.

    `logged`: keys of metrics and curves that some run has, None for all; panels of others would stay empty.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    def has(key: str) -> bool:
        return logged is None or key in logged

    def summary(key: str) -> Any:
        return wr.SummaryMetric(key)

    def bars(*metrics: Metric, chance: bool = False) -> Any:
        here = [entry for entry in metrics if has(entry.key)]
        nulls = [entry.null for entry in here if chance and entry.null]
        title = " · ".join([entry.label for entry in here] + ["by chance" for _ in nulls])
        keys = [*(entry.key for entry in here), *nulls]
        return wr.BarPlot(title=title, metrics=[wr.Metric(key) for key in keys]) if keys else None

    def against(x: Metric, y: Metric, log_x: bool = True) -> Any:
        if not (has(x.key) and has(y.key)):
            return None
        return wr.ScatterPlot(
            title=f"{y.short} by {x.short}", x=summary(x.key), y=summary(y.key), log_x=log_x or None
        )

    def by(axis: Axis, y: Metric) -> Any:
        title, where = f"{y.short} by {axis.setting}", wr.Config(key_of(axis.setting))
        if axis.numeric:
            return wr.ScatterPlot(title=title, x=where, y=summary(y.key), log_x=axis.log or None)
        return wr.BarPlot(title=title, metrics=[wr.Metric(y.key)], groupby=where)

    def by_axes(y: Metric) -> list[Any]:
        return [by(axis, y) for axis in axes if has(y.key) and not axis.repeats]

    def curves(*keys: str) -> list[Any]:
        return [wr.LinePlot(title=key, x="tokens_seen", y=[key]) for key in keys if has(key)]

    def machine(*keys: str) -> list[Any]:
        return [wr.LinePlot(title=key, x="RelativeTime(Process)", y=[f"system/{key}"]) for key in keys]

    def media(*keys: str) -> Any:
        return wr.MediaBrowser(title=", ".join(keys), media_keys=list(keys), num_columns=1)

    outcomes = [entry.key for entry in shown("sweep") if not entry.between_jobs and has(entry.key)]
    columns = [wr.Config(key_of(axis.setting)) for axis in axes] + [summary(key) for key in outcomes]
    planned = {
        "Overview": [
            wr.ParallelCoordinatesPlot(
                title="axes and outcomes",
                columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns],
            ),
            against(SAE_L0, SAE_FVU),
            against(SAE_L0, LM_CE_SCORE),
            against(SI_MUTUAL_INFO, SI_BEYOND_TOKEN_MEAN, log_x=False),
            against(SI_EXCESS, Q_EXCESS, log_x=False),
            media("pages/sweep_report", "pages/report"),
            wr.WeavePanelSummaryTable(table_name="tables/sweep"),
            wr.RunComparer(diff_only="split"),
        ],
        "SI": [
            bars(SI_MUTUAL_INFO, chance=True),
            bars(SI_LEXICAL_SHARE),
            bars(SI_BEYOND_TOKEN_MEAN, SI_BEYOND_BIGRAM_MEAN, chance=True),
            *by_axes(SI_MUTUAL_INFO),
            bars(SI_MEAN, chance=True),
            bars(SI_CI_LOW, SI_MEAN, SI_CI_HIGH),
            bars(SI_SIGNIFICANT_FRAC),
            *by_axes(SI_EXCESS),
            against(FEATURES_SUPPORTED, SI_EXCESS),
            media("hist/si", "hist/si_null_draws"),
        ],
        "Q": [
            bars(Q_MODULARITY, chance=True),
            bars(Q_MODULARITY, Q_WITHIN_TASK, Q_TASK_PARTITION),
            bars(Q_N_EDGES, chance=True),
            bars(Q_AMI_TASK, Q_AMI_TASK_WITHIN, Q_SEED_ARI),
            *by_axes(Q_EXCESS),
            against(FEATURES_SUPPORTED, Q_EXCESS),
        ],
        "Reconstruction": [
            bars(SAE_FVU),
            bars(LM_CE, LM_CE_SPLICED, LM_CE_MEAN, LM_CE_ZERO),
            bars(LM_CE_SCORE, LM_KL_SCORE),
            *by_axes(SAE_FVU),
            against(SAE_L0, LM_KL_SCORE),
            *curves("train/fvu", "train/loss", "train/l0", "train/dead_frac"),
        ],
        "Dynamic-k": [
            bars(DYNK_K_AT_PPL_1PCT, DYNK_K_AT_PPL_5PCT),
            against(DYNK_K_AT_PPL_1PCT, SI_EXCESS),
            against(DYNK_K_AT_PPL_1PCT, Q_EXCESS),
        ],
        "Features": [
            bars(FEATURES_ALIVE_FRAC, FEATURES_DEAD_FRAC),
            bars(FEATURES_SUPPORTED),
            bars(FEATURES_DENSITY_GT_1PCT_FRAC, FEATURES_DENSITY_GT_10PCT_FRAC),
            media("hist/log10_density", "hist/log10_max_act"),
            wr.WeavePanelSummaryTable(table_name="tables/features_top"),
            media("pages/latents"),
        ],
        "System": [
            bars(COST_WALL_S),
            bars(COST_TOKENS_PER_S),
            bars(COST_PEAK_MEM_MB),
            *machine("cpu", "proc.memory.rssMB", "gpu.0.gpu", "gpu.0.memoryAllocated"),
        ],
    }
    shown_panels = {name: [panel for panel in panels if panel] for name, panels in planned.items()}
    sections = {name: panels for name, panels in shown_panels.items() if panels}
    # W&B's ids are random; with ours the same sweep gives the same file
    number_panels([panel for panels in sections.values() for panel in panels])
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"saescope {group}",
        sections=[
            ws.Section(name=name, panels=panels, is_open=name in ("Overview", "SI", "Q"))
            for name, panels in sections.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens_seen", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == group],
            pinned_columns=[axis.accessor for axis in axes] + [f"summary:{key}" for key in outcomes],
        ),
    )
