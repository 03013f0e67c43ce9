"""Dynamic k: execute only part of the network, and say what quality costs and what compute it really saves.

`run.py: run(cfg, inputs)` dispatches on `cfg.dynamic_k.target` and merges the parts it gets from

    evaluate.py    run_mlp(cfg, inputs)        target `mlp`: selectors, granularities, costs, timings
    sae.py         run_sae(cfg, inputs)        target `sae`: the SAE read at k' ≤ k, spliced in
    structure.py   run_structure(cfg, inputs)  either target, `dynamic_k.structure=true`: SI and Q → savings

each `(cfg: AppConfig, inputs: Inputs) -> Part`; `Inputs` and `Part` are in `part.py`, columns in `table.py`.
Shared: `split.py` (calibration and evaluation windows of different documents), `passes.py` (losses of edited
models per document, all variants in one sweep over the batches, and the columns made from them), `keys.py`
(every `dynk/*` key there is).
"""
