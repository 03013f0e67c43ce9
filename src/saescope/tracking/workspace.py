"""A W&B workspace as code: the sections a sweep is read by, over the metric keys of `metrics.json`.

Needs the extra `workspaces` (wandb-workspaces). Offline the view is kept as JSON beside the report; online it
is saved in the project, one view per sweep, showing the sweep's group only.
"""

import logging
from pathlib import Path
from typing import Any

from saescope.compat import number_panels, workspace_view
from saescope.files import write_json

log = logging.getLogger(__name__)

FILE = "wandb_workspace.json"
AXES = ("num_parameters", "depth", "expansion_factor", "k")
"""Config keys of a job (`wandb_run.facts`) that sweeps vary."""


def write_workspace(folder: Path, *, entity: str, project: str, group: str, online: bool) -> str | None:
    """Write the view of `group` to `folder`, save it when online; its URL, or None.

    Without the extra one log line says how to get it. Raises what W&B raises when a view cannot be saved.
    """
    try:
        view = build(entity, project, group)
    except ImportError:
        log.info("no W&B workspace: pip install 'saescope[workspaces]' (wandb-workspaces) makes one")
        return None
    write_json(folder / FILE, dump(view))
    if not online:
        return None
    view.save()
    return str(view.url)


def dump(view: Any) -> dict[str, Any]:
    """The view as W&B stores it, without login; `Workspace._from_model` reads it back."""
    return workspace_view(view)


def build(entity: str, project: str, group: str) -> Any:
    """The workspace of one sweep. Raises ImportError without the extra."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    def config(key: str) -> Any:
        return wr.Config(key)

    def summary(key: str) -> Any:
        return wr.SummaryMetric(key)

    def bars(*keys: str) -> Any:
        return wr.BarPlot(title=", ".join(keys), metrics=[wr.Metric(key) for key in keys])

    def against(x: str, y: str, log_x: bool = True) -> Any:
        where = config(x) if x in AXES else summary(x)
        return wr.ScatterPlot(title=f"{y} by {x}", x=where, y=summary(y), log_x=log_x or None)

    def by_axes(y: str) -> list[Any]:
        return [against(axis, y, log_x=axis != "depth") for axis in AXES]

    def curves(*keys: str) -> list[Any]:
        return [wr.LinePlot(title=key, x="tokens_seen", y=[key]) for key in keys]

    def machine(*keys: str) -> list[Any]:
        return [wr.LinePlot(title=key, x="RelativeTime(Process)", y=[f"system/{key}"]) for key in keys]

    def media(*keys: str) -> Any:
        return wr.MediaBrowser(title=", ".join(keys), media_keys=list(keys), num_columns=1)

    outcomes = ("sae/fvu", "sae/l0", "lm/ce_score", "si/excess", "q/excess")
    columns = [config(axis) for axis in AXES] + [summary(key) for key in outcomes]
    sections = {
        "Overview": [
            wr.ParallelCoordinatesPlot(
                title="axes and outcomes",
                columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns],
            ),
            against("sae/l0", "sae/fvu"),
            against("sae/l0", "lm/ce_score"),
            against("si/excess", "q/excess", log_x=False),
            media("pages/sweep_report"),
            wr.WeavePanelSummaryTable(table_name="tables/sweep"),
            wr.RunComparer(diff_only="split"),
        ],
        "SI": [
            bars("si/mean", "si/null_mean"),
            bars("si/ci_low", "si/mean", "si/ci_high"),
            bars("si/significant_frac"),
            *by_axes("si/excess"),
            against("features/supported", "si/excess"),
            media("hist/si", "hist/si_null_draws"),
        ],
        "Q": [
            bars("q/modularity", "q/null_mean"),
            bars("q/modularity", "q/within_task", "q/task_partition"),
            bars("q/n_edges", "q/null_edges"),
            bars("q/ami_task", "q/ami_task_within", "q/seed_ari"),
            *by_axes("q/excess"),
            against("features/supported", "q/excess"),
        ],
        "Reconstruction": [
            bars("sae/fvu"),
            bars("lm/ce", "lm/ce_spliced", "lm/ce_mean", "lm/ce_zero"),
            bars("lm/ce_score", "lm/kl_score"),
            *by_axes("sae/fvu"),
            against("sae/l0", "lm/kl_score"),
            *curves("train/fvu", "train/loss", "train/l0", "train/dead_frac"),
        ],
        "Dynamic-k": [
            bars("dynk/k_at_ppl_1pct", "dynk/k_at_ppl_5pct"),
            against("dynk/k_at_ppl_1pct", "si/excess"),
            against("dynk/k_at_ppl_1pct", "q/excess"),
        ],
        "Features": [
            bars("features/alive_frac", "features/dead_frac"),
            bars("features/supported"),
            bars("features/density_gt_1pct_frac", "features/density_gt_10pct_frac"),
            media("hist/log10_density", "hist/log10_max_act"),
            wr.WeavePanelSummaryTable(table_name="tables/features_top"),
        ],
        "System": [
            bars("cost/wall_s"),
            bars("cost/tokens_per_s"),
            bars("cost/peak_mem_mb"),
            *machine("cpu", "proc.memory.rssMB", "gpu.0.gpu", "gpu.0.memoryAllocated"),
        ],
    }
    # W&B draws random ids; ours make the same sweep the same file
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
            pinned_columns=[f"config:{axis}" for axis in AXES] + [f"summary:{key}" for key in outcomes],
        ),
    )
