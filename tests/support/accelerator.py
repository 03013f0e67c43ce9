"""A CUDA device for tests: the machine's own GPU, or one that is none.

The one that is none has tensors that say `cuda:0` and whose values lie in ordinary memory. With it the code
that runs on a GPU runs on a machine without one, on real values that can be compared with those of the CPU.
Every operation is checked: tensors of two devices together are an error, as on a GPU.
It counts what a GPU would have to wait for, and remembers the largest tensor.

PyTorch's `FakeTensorMode` cannot do this: its tensors have no values, and the passes here have shapes and
branches that depend on them (which tokens count, which latents fire). What it cannot show either: CUDA's own
kernels (Triton's decoder, fused optimisers), their rounding, and time.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten

COPIES = {aten._to_copy, aten.copy_, aten.lift_fresh, aten.lift_fresh_copy, aten._pin_memory}
"""Operations that may read from one device and write to another."""
STRICT = {aten.cat, aten.stack, aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}
"""Operations that take no number from the host among tensors of a device."""
SIZED_BY_VALUES = {
    aten.nonzero, aten.masked_select, aten.bincount, aten._unique2, aten.unique_dim, aten.unique_consecutive,
    aten.equal,
}  # fmt: skip
"""Operations whose result has a shape, or is a number, that only the device knows: the host waits."""


class WrongDeviceError(RuntimeError):
    """Tensors of two devices in one operation."""


class DeviceTensor(Tensor):
    """A tensor on the device. To PyTorch's core it is a `meta` tensor, as a CPU build has no other."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "DeviceTensor":
        made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device("meta"),
        )
        made.values = values
        return made

    device = property(lambda self: CUDA)
    is_cuda, is_meta, is_cpu = True, False, False

    def tolist(self) -> Any:
        """PyTorch's own does not take other classes."""
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"on {CUDA}: {self.values}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of the simulated device")


class _Counting(TorchDispatchMode):
    """Counts what the host and the device exchange."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """How often the host waited for the device, by the operation that made it wait."""
        self.uploads = 0
        """Copies from the host to the device."""
        self.largest = 0
        """Elements of the largest tensor that an operation left on the device."""
        self.dtypes: dict[str, set[torch.dtype]] = {}
        """Types of the tensors that matrix products were given."""

    def forget(self) -> None:
        """Count anew."""
        self.waits.clear()
        self.uploads = self.largest = 0

    def _count(
        self, op: Any, args: Any, kwargs: Any, to_device: bool, tensors: list[Tensor], on_device: list[Any]
    ) -> None:
        name = op.__name__
        if op in COPIES:
            source = args[1] if op is aten.copy_ else args[0]
            if source.is_cuda and not to_device:
                self.waits["copy to the host"] += 1
            elif not source.is_cuda and to_device:
                self.uploads += 1
        elif not on_device:
            return
        elif op is aten._local_scalar_dense:
            self.waits["number to the host"] += 1
        elif op in SIZED_BY_VALUES:
            self.waits[name] += 1
        elif op is aten.repeat_interleave:
            self.waits[name] += kwargs.get("output_size") is None
        elif op in STRICT and "index" in name:
            masks = sum(i is not None and i.dtype is torch.bool for i in args[1])
            self.waits["boolean index"] += 0 if _scalar_put(op, args) else masks
        elif "mm" in name:
            self.dtypes.setdefault(name, set()).update(tensor.dtype for tensor in tensors)


class RealDevice(_Counting):
    """The machine's own GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = func.overloadpacket
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        result = func(*args, **kwargs)
        left = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_cuda]
        to_device = args[0].is_cuda if op is aten.copy_ else bool(left)
        self._count(op, args, kwargs, to_device, tensors, [tensor for tensor in tensors if tensor.is_cuda])
        given = {tensor.data_ptr() for tensor in tensors}
        new = [tensor.numel() for tensor in left if tensor.data_ptr() not in given]
        self.largest = max([self.largest, *new])
        return result


class SimulatedDevice(_Counting):
    """While open, `cuda` exists."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        op, leaves = func.overloadpacket, tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        on_device = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        wanted = kwargs.pop("device", None)
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        to_device = bool(on_device) if wanted is None else torch.device(wanted).type in ("cuda", "meta")
        if op is aten.copy_:
            to_device = isinstance(args[0], DeviceTensor)
        if op not in COPIES:
            self._check(func, args, tensors, on_device)
        self._count(op, args, kwargs, to_device, tensors, on_device)
        of_values = {id(tensor.values): tensor for tensor in on_device}
        args, kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.values, (args, kwargs))
        result = func(*args, **kwargs)

        def placed(tensor: Tensor) -> Tensor:
            if id(tensor) in of_values:
                return of_values[id(tensor)]  # changed in place
            if not to_device:
                return tensor
            self.largest = max(self.largest, tensor.numel())
            return DeviceTensor(tensor)

        return tree_map_only(Tensor, placed, result)

    def _check(self, func: Any, args: Any, tensors: list[Tensor], on_device: list[Any]) -> None:
        op, on_host = func.overloadpacket, [t for t in tensors if not isinstance(t, DeviceTensor)]
        if not on_device or not on_host:
            return
        written = func.__name__.split(".")[0].endswith("_") and not isinstance(args[0], DeviceTensor)
        # CUDA takes single numbers from the host, as arguments of arithmetic
        if written or (op in STRICT and not _scalar_put(op, args)) or any(t.ndim for t in on_host):
            shapes = ", ".join(f"{list(t.shape)} on {t.device.type}" for t in tensors)
            raise WrongDeviceError(f"{func}: {shapes}")


def _scalar_put(op: Any, args: Any) -> bool:
    """`x[mask] = number`, which CUDA does by `masked_fill`."""
    return op is not aten.index and "index_put" in op.__name__ and args[2].numel() == 1


class _Numbered(TorchFunctionMode):
    """`cuda` becomes `cuda:0`: PyTorch's core would ask the driver for the current device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def numbered(value: Any) -> Any:
            is_cuda = isinstance(value, str | torch.device) and str(value) == "cuda"
            return CUDA if is_cuda else value

        kwargs = {name: numbered(value) for name, value in (kwargs or {}).items()}
        if func is torch.tensor and kwargs.get("device") == CUDA:  # made on the host and copied, as on a GPU
            return func(*args, **{**kwargs, "device": "cpu"}).to(CUDA)
        if func is Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(CUDA)
        return func(*map(numbered, args), **kwargs)


@contextmanager
def cuda_device(monkeypatch: Any) -> Iterator[RealDevice | SimulatedDevice]:
    """`cuda` for the code in this block: the machine's own GPU, or a simulated one where there is none."""
    # tensors of other classes cannot be inference tensors, and their operations are not taken apart
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    if torch.cuda.is_available():
        with RealDevice() as real:
            yield real
            real.waits = +real.waits
        return
    # PyTorch's argument parser asks for CUDA at the first mention of the device
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with _Numbered(), SimulatedDevice() as device:
        yield device
        device.waits = +device.waits
