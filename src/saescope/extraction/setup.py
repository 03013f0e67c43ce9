"""What every pass over text needs: model, hookpoint, probe windows, machine, cache."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from saescope.activations import ActivationSource, ActivationStore, LiveActivations, LiveWindows
from saescope.config import RuntimeConfig
from saescope.errors import HookpointError
from saescope.model.capture import Capture, Captures, NoActivationError
from saescope.model.hookpoints import Hookpoint
from saescope.model.load import LanguageModel
from saescope.model.proof import proved_width
from saescope.runtime.hardware import Hardware
from saescope.sae.base import Sae
from saescope.text.packing import Ids
from saescope.text.windows import Windows

log = logging.getLogger(__name__)


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

    companions: tuple[Hookpoint, ...] = ()
    """Hookpoints at which other jobs will read the same text: their caches are filled in the same passes."""

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

    def on_both_sides(self, sae: Sae | None = None) -> "Setup":
        """This setup with `hookpoint.side="both"`, for a transcoder: what it reads and what it predicts.

        None is one that is yet to be trained: from a module's input to its output, of the same width. Raises
        HookpointError where the two have other widths than the transcoder.
        """
        reads = None if sae is None else sae.reads
        width = 2 * self.width if sae is None else sae.d_in + sae.d_out
        both = dataclasses.replace(
            self,
            hookpoint=dataclasses.replace(self.hookpoint, side="both", reads=reads),
            companions=(),
        )
        if self.hookpoint.side != "output" or both.width != width:
            source = f"{reads.label} of width {sae.d_in}" if sae and reads else "an input of the same width"
            raise HookpointError(
                f"a transcoder predicts a module's output from {source}; "
                f"{self.hookpoint.label} is no such module, choose hookpoint=mlp or "
                "hookpoint=custom hookpoint.name=MODULE"
            )
        return both

    @cached_property
    def companion_widths(self) -> dict[Hookpoint, int]:
        """Width of every companion's activations; nothing for those this model does not run."""
        points = [point for point in dict.fromkeys(self.companions) if point != self.hookpoint]
        if not points:
            return {}
        try:
            return dict(zip(points, Captures(self.lm.model, points).widths(), strict=True))
        except NoActivationError as error:
            log.info("hookpoints of the other jobs are read in their own passes: %s", error)
            return {}

    @contextmanager
    def probe_activations(self) -> Iterator[ActivationSource]:
        """Activations of the counted tokens of the probe windows, from the cache where there is one."""

        def live(points: Sequence[Hookpoint]) -> ActivationSource:
            capture, width = self._reader(points)
            return LiveWindows(capture, self.windows, self.machine.batch_tokens, self.machine.device, width)

        with self.store.opened(
            live,
            self.hookpoint,
            self.windows,
            companions=lambda: self.companion_widths,
            fill=self.processes == 1,
            missing="model, probes",
        ) as source:
            yield source

    @contextmanager
    def row_activations(self, rows: Ids, text: str, *, fill: bool = True) -> Iterator[ActivationSource]:
        """Activations of packed rows [R, ctx_len]; `text` names them on the progress bar.

        `fill` runs the model now, for all that the cache lacks.
        """

        def live(points: Sequence[Hookpoint]) -> ActivationSource:
            capture, width = self._reader(points)
            batch_rows = self.machine.batch_tokens // rows.shape[1]
            return LiveActivations(capture, rows, batch_rows, self.machine.device, width)

        with self.store.opened(
            live,
            self.hookpoint,
            rows,
            companions=lambda: self.companion_widths,
            fill=fill,
            missing=f"model, {text}",
        ) as source:
            yield source

    def _reader(self, points: Sequence[Hookpoint]) -> tuple[Capture | Captures, int]:
        """Reads these hookpoints side by side; and the width of what it reads."""
        if list(points) == [self.hookpoint]:
            return self.capture, self.width
        widths = {**self.companion_widths, self.hookpoint: self.width}
        return Captures(self.lm.model, points), sum(widths[point] for point in points)
