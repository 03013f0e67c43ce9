"""`sae=python`: the user's own object with `encode` and `decode`, as an `Sae`."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saescope.config import PythonSae
from saescope.config.target import brief, imported
from saescope.errors import SaeError
from saescope.sae import base
from saescope.sae.base import Sae, SparseCodes, compress, token_of_each

LARGEST = 2**31 - 1
"""Latents, and width of activations, at most."""

PROBE_ROWS = 4
"""Rows of noise on which an object is checked before it gets activations."""

EXPECTED = (
    "expected a dense code [N, num_latents] of floats, or (top_acts, top_indices) of floats and integers, "
    "both [N, k]"
)


def find_target(target: str) -> Callable[..., Any]:
    """The function at `module:function`. Raises SaeError when it cannot be imported or called."""
    make = imported(target)
    if not callable(make):
        raise SaeError(
            f"sae.target={target} is {_article(make)}; expected a function (or class), which is called with "
            "sae.options and returns the SAE"
        )
    return make  # type: ignore[no-any-return]


def load_python(cfg: PythonSae, *, d_in: int, hookpoint: str) -> Sae:
    """Call `sae.target` with `sae.options`, and with `d_in` and `hookpoint` where it has such parameters.

    Raises SaeError when that fails, or what it returns is no SAE for activations of width `d_in`.
    """
    make, label = find_target(cfg.target), f"sae.target={cfg.target}"
    try:
        parameters: Mapping[str, Any] = inspect.signature(make).parameters
    except Exception:  # some built-ins do not say, and objects of the user may raise anything
        parameters = {}
    from_job = {
        name: value for name, value in (("d_in", d_in), ("hookpoint", hookpoint)) if name in parameters
    }
    inner = _call(label, make, **{**from_job, **cfg.options})
    if isinstance(inner, Sae):
        return wrap(inner, d_in=d_in, name=label)
    source = {"source": "python", "target": cfg.target, "options": dict(cfg.options)}
    return UserSae(inner, d_in=d_in, label=label, source=source)


def wrap(inner: Any, *, d_in: int, name: str | None = None) -> Sae:
    """An object with `encode` and `decode` as an `Sae` for activations of width `d_in`.

    `name` stands for it in error messages and in the report; by default the name of its class. An `Sae` is
    returned as it is. Raises SaeError when the object does not do what `UserSae` says.
    """
    label = name or type(inner).__name__
    if not isinstance(inner, Sae):
        return UserSae(inner, d_in=d_in, label=label, source={"source": "python", "target": label})
    _check_width(inner, d_in, label)
    return inner


class UserSae(Sae):
    """An object with

    - `encode(x)`, x float32 [N, d_in], which returns a dense code [N, num_latents], or `top_acts` and
      `top_indices` [N, k], as a pair or as attributes of what it returns (sparsify does that);
    - `decode(dense)`, or `decode(top_acts, top_indices)`, which returns [N, d_in];
    - `num_latents`, which a dense code need not have, and optionally `d_in`.

    Tensors and numpy arrays are accepted. An entry is active when it is not 0. A `torch.nn.Module` is put on
    the job's device and into evaluation mode; any other object gets tensors on its attribute `device`, else
    on the CPU. Shapes, types, latent numbers and finiteness are checked once on noise and then on every
    batch.

    Example:
        >>> class Relu:
        ...     def encode(self, x):
        ...         return x.relu()
        ...     def decode(self, dense):
        ...         return dense
        >>> sae = saescope.UserSae(Relu(), d_in=4, label="relu", source={})
        >>> sae.num_latents, sae.k
        (4, None)
    """

    def __init__(self, inner: Any, *, d_in: int, label: str, source: dict[str, Any]) -> None:
        super().__init__()
        for method in ("encode", "decode"):
            if not callable(_attribute(inner, method, label)):
                raise SaeError(
                    f"{label} is {_article(inner)} without the method {method}; an object with encode(x) and "
                    "decode(codes) is expected"
                )
        self.inner: Any = _call(f"{label}: eval", inner.eval) if isinstance(inner, nn.Module) else inner
        self.label, self._source = label, source
        _check_width(inner, d_in, label)
        self.d_in = d_in
        noise_ND = torch.randn(PROBE_ROWS, d_in, generator=torch.Generator().manual_seed(0))
        acts, indices = self._encoded(noise_ND)
        self.sparse = indices is not None
        self.k = acts.shape[1] if self.sparse else None
        if not acts.shape[1]:
            raise SaeError(f"{label}: encode returned {self._shape(acts, indices)}; no column is no code")
        stated = _whole(inner, "num_latents", label)
        if stated is None and self.sparse:
            raise SaeError(
                f"{label} gives top_indices, which do not say how many latents there are: "
                "give the object an attribute num_latents"
            )
        self.num_latents = acts.shape[1] if stated is None else stated
        self.decode(self.encode(noise_ND))

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """The object's `encode`, checked, without zeros. Raises SaeError."""
        acts, indices = self._encoded(x_ND)
        n, width = acts.shape
        if (indices is not None) != self.sparse or width != (self.k if self.sparse else self.num_latents):
            raise SaeError(
                f"{self.label}: encode returned {self._shape(acts, indices)}; {self.num_latents} latents"
                f"{f' and k={self.k}' if self.sparse else ''} are expected, every time"
            )
        finite_N = torch.isfinite(acts).all(1)
        if not finite_N.all() and (torch.isfinite(x_ND).all(1) & ~finite_N).any():
            raise SaeError(f"{self.label}: encode returned NaN or infinite activations for finite ones")
        if indices is None:
            rows, latents = acts.nonzero(as_tuple=True)
            return SparseCodes(torch.bincount(rows, minlength=n), latents, acts[rows, latents])
        codes = compress(acts, indices)
        if len(codes.latents):
            low, high = int(codes.latents.min()), int(codes.latents.max())
            if low < 0 or high >= self.num_latents:
                raise SaeError(
                    f"{self.label}: encode returned top_indices from {low} to {high}; "
                    f"with num_latents={self.num_latents} they must lie between 0 and {self.num_latents - 1}"
                )
        number = torch.where(acts != 0, indices.long(), -1 - torch.arange(width, device=acts.device))
        number = number.sort(dim=1).values
        if (number[:, 1:] == number[:, :-1]).any():
            raise SaeError(f"{self.label}: encode returned a latent twice in one row of top_indices")
        return codes

    def decode(self, codes: SparseCodes) -> Tensor:
        """The object's `decode` of the codes in the form its `encode` returns, checked. Raises SaeError."""
        parts = [self._decoded(part) for part in self._parts(codes)]
        return torch.cat(parts) if parts else torch.zeros(0, self.d_in, device=codes.acts.device)

    def provenance(self) -> dict[str, Any]:
        """Target, options, sizes and k."""
        return {
            **self._source,
            "d_in": self.d_in,
            "num_latents": self.num_latents,
            "expansion_factor": self.num_latents / self.d_in,
            "k": self.k,
        }

    def _encoded(self, x_ND: Tensor) -> tuple[Tensor, Tensor | None]:
        """Activations in float32, and latent numbers unless the code is dense; on the device of `x_ND`."""
        # a copy: an `encode` that works in place must not change the activations
        x = self._moved(x_ND.to(dtype=torch.float32, copy=True))
        what = f"{self.label}: encode"
        out = _call(what, self.inner.encode, x)
        pair = _call(f"{what} returned what", _pair, out)
        tensors = [_tensor(value) for value in pair or (out,)]
        acts, indices = tensors[0], tensors[-1] if pair else None
        if acts is None or (pair and indices is None):
            is_tuple = isinstance(out, tuple)
            types = f"({', '.join(_article(value) for value in out)})" if is_tuple else _article(out)
            raise SaeError(f"{self.label}: encode returned {types}; {EXPECTED}")
        valid = acts.ndim == 2 and len(acts) == len(x_ND) and acts.is_floating_point()
        if indices is not None:
            whole = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
            valid = valid and indices.shape == acts.shape and whole
        if not valid:
            raise SaeError(
                f"{self.label}: encode of {_product(x_ND)} returned {self._shape(acts, indices)}; {EXPECTED}"
            )
        return acts.to(x_ND.device).float(), None if indices is None else indices.to(x_ND.device)

    def _parts(self, codes: SparseCodes) -> Iterator[SparseCodes]:
        """The codes in runs of tokens whose dense form stays below `PRE_ACTS_BYTES`."""
        rows = max(1, base.PRE_ACTS_BYTES // (4 * self.num_latents))
        ends = [0, *codes.sizes_N.cumsum(0).tolist()]
        for at in range(0, len(codes.sizes_N), rows):
            stop = min(at + rows, len(codes.sizes_N))
            entries = slice(ends[at], ends[stop])
            yield SparseCodes(codes.sizes_N[at:stop], codes.latents[entries], codes.acts[entries])

    def _decoded(self, codes: SparseCodes) -> Tensor:
        device, n = codes.acts.device, len(codes.sizes_N)
        rows = token_of_each(codes)
        if self.sparse:
            first_N = codes.sizes_N.cumsum(0) - codes.sizes_N
            slots = torch.arange(len(rows), device=device) - first_N[rows]
            width = max(self.k or 0, int(codes.sizes_N.max()))
            acts, indices = torch.zeros(n, width, device=device), torch.zeros(n, width, device=device).long()
            acts[rows, slots], indices[rows, slots] = codes.acts, codes.latents
            arguments: tuple[Tensor, ...] = (acts, indices)
        else:
            dense = torch.zeros(n, self.num_latents, device=device)
            dense[rows, codes.latents] = codes.acts
            arguments = (dense,)
        out = _call(f"{self.label}: decode", self.inner.decode, *map(self._moved, arguments))
        xhat_ND = _tensor(out)
        if xhat_ND is None or xhat_ND.shape != (n, self.d_in) or not xhat_ND.is_floating_point():
            returned = _article(out) if xhat_ND is None else self._shape(xhat_ND, None)
            raise SaeError(f"{self.label}: decode returned {returned}; expected floats of {n} × {self.d_in}")
        xhat_ND = xhat_ND.to(device).float()  # first: what is finite in float64 may not be here
        if torch.isfinite(codes.acts).all() and not torch.isfinite(xhat_ND).all():
            raise SaeError(f"{self.label}: decode returned NaN or infinite values for finite codes")
        return xhat_ND

    def _moved(self, tensor: Tensor) -> Tensor:
        """The tensor on the device of the object's own. Raises SaeError for a device that is not there."""
        if isinstance(self.inner, nn.Module):
            weight = next(chain(self.inner.parameters(), self.inner.buffers()), None)
            return tensor if weight is None else tensor.to(weight.device)
        device = _attribute(self.inner, "device", self.label)
        if not isinstance(device, str | torch.device):
            device = "cpu"
        return _call(f"{self.label}.device={device}", tensor.to, device)  # type: ignore[no-any-return]

    @staticmethod
    def _shape(acts: Tensor, indices: Tensor | None) -> str:
        """Sizes and types as an error message gives them."""
        of_acts = f"{_product(acts)} of {_type(acts)}"
        if indices is None:
            return of_acts
        return f"top_acts {of_acts} and top_indices {_product(indices)} of {_type(indices)}"


def _call(what: str, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
    """Whatever is asked of the user's object is asked here. Raises SaeError for what that raises."""
    try:
        with torch.no_grad():
            return function(*args, **options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises, sys.exit() included
        raise SaeError(f"{what} raised {brief(error)}") from error


def _attribute(inner: Any, name: str, label: str) -> Any:
    """An attribute of the user's object; None where it is missing."""
    return _call(f"{label}: {name}", getattr, inner, name, None)


def _pair(out: Any) -> tuple[Any, Any] | None:
    """Activations and latent numbers, where `encode` returned both."""
    if hasattr(out, "top_acts") and hasattr(out, "top_indices"):
        return out.top_acts, out.top_indices
    return (out[0], out[1]) if isinstance(out, tuple | list) and len(out) == 2 else None


def _check_width(inner: Any, d_in: int, label: str) -> None:
    stated = _whole(inner, "d_in", label)
    if stated is not None and stated != d_in:
        raise SaeError(f"{label} has d_in={stated}, but the activations have width {d_in}")


def _whole(inner: Any, name: str, label: str) -> int | None:
    """An attribute that is a size; None where it is missing."""
    value = _attribute(inner, name, label)
    if isinstance(value, Tensor | np.ndarray | np.generic) and not value.shape:
        value = _call(f"{label}: {name}", value.item)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        shown = value if isinstance(value, int | float | str) else _article(value)
        raise SaeError(
            f"{label} has {name}={shown!r:.40}; a whole number from 1 is expected, {LARGEST} at most"
        )
    return value


def _tensor(value: Any) -> Tensor | None:
    """A tensor or a numpy array of numbers as a tensor; None for anything else."""
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        try:
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=True))
        except TypeError:  # of objects, or of a type that torch does not have
            return None
    if not isinstance(value, Tensor) or _special(value):
        return None
    return value.detach() if value.layout is torch.strided else value.detach().to_dense()


def _special(tensor: Tensor) -> str:
    """What makes it no plain array of numbers; empty for others."""
    kinds = {"nested": tensor.is_nested, "quantised": tensor.is_quantized, "meta": tensor.is_meta}
    return next((kind for kind, true in kinds.items() if true), "")


def _product(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "a single number"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _article(value: Any) -> str:
    """Its type with an article, as an error message calls it."""
    name = type(value).__name__
    if isinstance(value, Tensor) and (kind := _special(value)):
        name = f"{kind} {name}"
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
