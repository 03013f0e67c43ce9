"""What calibration says is what a loop over the windows says."""

import torch

from saescope.dynamic_k.calibration import calibrate
from saescope.dynamic_k.mlps import edited, find_mlps
from saescope.dynamic_k.selectors import top_mask

from .models import logits, passes, tiny, windows


def test_task_and_static_masks_and_compensation_are_means_over_calibration():
    model, some = tiny("llama"), windows()
    mlp = find_mlps(model)[1]
    calibration = calibrate(find_mlps(model), passes(model, some), 0)
    rows, tasks = [], []
    for w, ids in enumerate(some.ids):
        caught = []
        with edited([mlp], lambda mlp, acts, caught=caught: caught.append(acts) or acts):
            logits(model, torch.from_numpy(ids).long()[None])
        rows.append(caught[0][0, 1:])
        tasks += [w % 2] * (len(ids) - 1)
    acts, tasks = torch.cat(rows), torch.tensor(tasks)
    torch.testing.assert_close(calibration.mean_act(mlp), acts.mean(0), rtol=1e-4, atol=1e-5)
    for task in range(2):
        assert torch.equal(
            calibration.task_mask(mlp, "abs_act", 0.3)[task], top_mask(acts[tasks == task].abs().mean(0), 0.3)
        )
    assert torch.equal(calibration.static_mask(mlp, "abs_act", 0.3), top_mask(acts.abs().mean(0), 0.3))
    assert not torch.equal(*calibration.task_mask(mlp, "abs_act", 0.3))
    kept = top_mask(acts.abs(), 0.3)
    torch.testing.assert_close(
        calibration.dropped_mean(mlp, ("topk", "abs_act", 0.3), lambda a: top_mask(a.abs(), 0.3)),
        (acts * ~kept).mean(0),
        rtol=1e-4,
        atol=1e-5,
    )
