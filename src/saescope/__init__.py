"""saescope: how specialised (SI) and how modular (Q) are the SAE features of a language model?

    import saescope

    lm = saescope.load_model("pythia-70m")
    x = saescope.capture(lm, {"code": [...], "prose": [...]}, "layers.3")
    result = saescope.measure(x, saescope.load_sae("EleutherAI/sae-pythia-70m-32k", "layers.3"))
    result.metrics["si/mean"], result.features, result.edges

`run` does what the command does, `open_run` and `open_sweep` read what it wrote. Nothing heavy is imported
before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from saescope.version import __version__

if TYPE_CHECKING:
    from saescope.api import (
        Activations as Activations,
    )
    from saescope.api import (
        Measurement as Measurement,
    )
    from saescope.api import (
        analyse as analyse,
    )
    from saescope.api import (
        capture as capture,
    )
    from saescope.api import (
        extract as extract,
    )
    from saescope.api import (
        load_model as load_model,
    )
    from saescope.api import (
        load_sae as load_sae,
    )
    from saescope.api import (
        measure as measure,
    )
    from saescope.config.compose import compose as compose
    from saescope.jobs.run import run as run
    from saescope.runfolder.run import Run as Run
    from saescope.runfolder.run import open_run as open_run
    from saescope.runfolder.sweep import Sweep as Sweep
    from saescope.runfolder.sweep import open_sweep as open_sweep
    from saescope.sae.python_target import UserSae as UserSae

_HOME = {
    "Activations": "api", "Measurement": "api", "analyse": "api", "capture": "api", "extract": "api",
    "load_model": "api", "load_sae": "api", "measure": "api",
    "compose": "config.compose",
    "run": "jobs.run",
    "Run": "runfolder.run", "open_run": "runfolder.run",
    "Sweep": "runfolder.sweep", "open_sweep": "runfolder.sweep",
    "UserSae": "sae.python_target",
}  # fmt: skip
"""Name → module below `saescope` in which it stands."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'saescope' has no attribute '{name}'")
    value = getattr(import_module(f"saescope.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
