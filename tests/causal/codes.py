"""Sparse codes made by hand: documents of tasks, latents with a rate on each task."""

import numpy as np

from saescope.extraction.codes import Codes, assemble


def codes_of(rate_FK, *, documents=20, tokens=40, seed=0, burst=0.0) -> Codes:
    """`rate_FK`: chance of a firing per token; `burst`: sd of the log rate between documents."""
    rng = np.random.default_rng(seed)
    num_latents, num_tasks = np.shape(rate_FK)
    task_D = np.repeat(np.arange(num_tasks), documents)
    doc_N = np.repeat(np.arange(len(task_D)), tokens)
    rate_FD = np.asarray(rate_FK)[:, task_D]
    if burst:
        rate_FD = rate_FD * rng.lognormal(-(burst**2) / 2, burst, rate_FD.shape)
    active_NF = rng.random((len(doc_N), num_latents)) < rate_FD.T[doc_N]
    rows, latents = active_NF.nonzero()
    acts = rng.lognormal(0, 0.3, len(rows)).astype(np.float32)
    return assemble(
        np.arange(len(doc_N)),
        active_NF.sum(1),
        latents,
        acts,
        window_N=doc_N,
        position_N=np.tile(np.arange(tokens), len(task_D)),
        doc_N=doc_N,
        task_D=task_D,
        tasks=tuple(f"task{k}" for k in range(num_tasks)),
        num_latents=num_latents,
        token_N=rng.integers(0, 30, len(doc_N)).astype(np.int32),
        previous_N=np.zeros(len(doc_N), np.int32),
    )
