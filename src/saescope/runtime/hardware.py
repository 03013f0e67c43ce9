"""Device, precision and batch size for this machine."""

import logging
import os
from dataclasses import dataclass
from typing import Any

import torch

from saescope.config import RuntimeConfig
from saescope.errors import ConfigError

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Tokens per forward pass: on CPU more than fit its caches cost a tenth of the time; a GPU wants many.
BATCH_TOKENS = {"cpu": 2048, "cuda": 65_536, "mps": 16_384}


@dataclass(frozen=True)
class Hardware:
    """What the job runs on."""

    device: str
    """`cpu`, `cuda` or `mps`."""

    dtype: torch.dtype
    """Of the language model's forward pass and of the encoder product."""

    batch_tokens: int
    """Tokens per forward pass, padding included."""

    @property
    def dtype_name(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self.dtype).removeprefix("torch.")


def choose(cfg: RuntimeConfig) -> Hardware:
    """Resolve the `auto` values. Raises ConfigError when the machine has no such device."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    device = available[0] if cfg.device == "auto" else cfg.device
    if device not in available:
        raise ConfigError(
            f"runtime.device={device} is not on this machine; available: {', '.join(available)}"
        )
    dtype = _native_dtype(device) if cfg.dtype == "auto" else DTYPES[cfg.dtype]
    hardware = Hardware(device, dtype, cfg.batch_tokens or BATCH_TOKENS[device])
    log.info(
        "device %s, %s%s, %d tokens a batch",
        device,
        hardware.dtype_name,
        " (chosen: native here)" if cfg.dtype == "auto" and dtype is not torch.float32 else "",
        hardware.batch_tokens,
    )
    return hardware


def free_memory(device: str) -> int:
    """Bytes that nothing uses, on a GPU or in the machine."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _native_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively; elsewhere it is emulated and slower."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device == "cpu":
        flags: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return torch.bfloat16 if flags.get("avx512_bf16") or flags.get("amx_bf16") else torch.float32
    return torch.float32
