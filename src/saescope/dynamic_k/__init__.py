"""Dynamic k: execute only part of the network, and say what quality costs and what compute it really saves.

`run.py` runs the parts that `cfg.dynamic_k` selects, each `(cfg, Setup) -> Part` (`run_sae` also takes the
SAE), and puts their rows, scalars and tables together.

    part.py       Part: rows of dynamic_k.csv, dynk/* scalars, tables
    curves.py     dynamic_k.csv → loss over k, for W&B
    passes.py     calibration and evaluation windows, of different documents; losses per document of the dense
                  model and of edits of it, all edits in one sweep over the batches

    mlp.py        target `mlp`: the grid of variants on every MLP's neurons
      mlps.py             the MLPs of any model, and hooks on their neurons
      calibration.py      mean scores and activations on calibration documents
      selectors.py        scores → masks
      variants.py         the grid, and the masks of each variant: the reference, which saves nothing
      implementations.py  gathered rows and sliced weights, which do less work
      cost.py             multiply-accumulates and bytes from shapes
      timing.py           tokens per second of those implementations
      mlp_summary.py      curves → dynk/*

    sae.py        target `sae`: the SAE read at k' ≤ k, spliced in
      reads.py            sparse codes → smaller reads of them
      sae_summary.py      curve → dynk/sae_*

    structure.py  either target, `dynamic_k.structure=true`: what SI and Q save on the MLP neurons
      neurons.py          statistics of every MLP's neurons on calibration documents
      communities.py      blocks of neurons: by Q, by k-means, by chance
      transfer.py         masks of one task, run on every task
      blocks.py           whole blocks run up to a budget
      union.py            neurons that a batch of tokens needs together
"""
