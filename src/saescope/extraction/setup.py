"""What every pass over text needs: model, hookpoint, probe windows, machine, cache."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from saescope.activations import ActivationSource, ActivationStore, LiveActivations, LiveWindows
from saescope.config import RuntimeConfig
from saescope.errors import HookpointError
from saescope.model.capture import Capture
from saescope.model.hookpoints import Hookpoint
from saescope.model.load import LanguageModel
from saescope.model.proof import proved_width
from saescope.runtime.hardware import Hardware
from saescope.text.packing import Ids
from saescope.text.windows import Windows


@dataclass(frozen=True)
class Setup:
    """One language model, one hookpoint and one probe set on one machine; everything but the SAE."""

    lm: LanguageModel

    hookpoint: Hookpoint

    windows: Windows
    """The probe texts as tokens."""

    machine: Hardware

    store: ActivationStore
    """Opens activations: from the cache, or from the model every time."""

    runtime: RuntimeConfig

    @cached_property
    def capture(self) -> Capture:
        """Reads activations at the hookpoint."""
        return Capture(self.lm.model, self.hookpoint)

    @cached_property
    def width(self) -> int:
        """Width of the activations; for a transcoder's hookpoint those of input and output side by side.

        The first look at the model: that the hookpoint is what its name says is proved before.
        """
        return proved_width(self.capture)

    @property
    def processes(self) -> int:
        """Processes that share a pass."""
        return self.runtime.devices * self.runtime.num_nodes

    def on_both_sides(self) -> "Setup":
        """This setup with `hookpoint.side="both"`, for transcoders: the module's input and output.

        Raises HookpointError where the two have different widths.
        """
        both = dataclasses.replace(self, hookpoint=dataclasses.replace(self.hookpoint, side="both"))
        if self.hookpoint.side != "output" or both.width != 2 * self.width:
            raise HookpointError(
                "a transcoder predicts a module's output from an input of the same width; "
                f"{self.hookpoint.label} is no such module, choose hookpoint=mlp or "
                "hookpoint=custom hookpoint.name=MODULE"
            )
        return both

    @contextmanager
    def probe_activations(self) -> Iterator[ActivationSource]:
        """Activations of the counted tokens of the probe windows, from the cache where there is one."""
        live = LiveWindows(
            self.capture, self.windows, self.machine.batch_tokens, self.machine.device, self.width
        )
        fill = self.processes == 1
        with self.store.opened(
            live, self.hookpoint, self.windows, fill=fill, missing="model, probes"
        ) as source:
            yield source

    @contextmanager
    def row_activations(self, rows: Ids, text: str, *, fill: bool = True) -> Iterator[ActivationSource]:
        """Activations of packed rows [R, ctx_len]; `text` names them on the progress bar.

        `fill` runs the model now, for all that the cache lacks.
        """
        batch_rows = self.machine.batch_tokens // rows.shape[1]
        live = LiveActivations(self.capture, rows, batch_rows, self.machine.device, self.width)
        with self.store.opened(live, self.hookpoint, rows, fill=fill, missing=f"model, {text}") as source:
            yield source
