"""Config group `runtime`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class RuntimeConfig:
    """How the job runs; nothing here changes what is measured."""

    device: str = "auto"
    """`auto`: the fastest device of the machine."""

    dtype: str = "auto"
    """LM forward and encoder product; `auto`: bfloat16 where the hardware multiplies it natively."""

    batch_tokens: int | None = None
    """Tokens per forward pass, padding included; null: chosen for the device."""

    devices: int = 1
    """Processes of one job (Lightning DDP)."""

    num_nodes: int = 1
    """Machines of one job."""

    cache: str = "auto"
    """Training rows and activations on disk, shared by all jobs: `auto` ($SAESCOPE_CACHE or the platform's
    cache folder), `off`, or a folder."""

    cache_gb: float = 20.0
    """Size cap of the activation cache; the least recently used go first."""

    def __post_init__(self) -> None:
        one_of("runtime.device", self.device, DEVICES)
        one_of("runtime.dtype", self.dtype, DTYPES)
        at_least("runtime.batch_tokens", self.batch_tokens, 1)
        at_least("runtime.devices", self.devices, 1)
        at_least("runtime.num_nodes", self.num_nodes, 1)
        at_least("runtime.cache_gb", self.cache_gb, 0)
