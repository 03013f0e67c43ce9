"""`sae.release=FOLDER`: which layout it has, and the SAE in it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.errors import SaeError, choices
from saescope.sae.formats.marks import SPARSIFY, format_of, looked_for

CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SPARSIFY_WEIGHTS = "sae.safetensors"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"


@dataclass(frozen=True)
class Folder:
    """A folder with `cfg.json` and `sae_weights.safetensors`, as sae_lens saves it."""

    path: Path

    converter = "sae_lens"

    def config(self) -> dict[str, Any]:
        """`cfg.json`. Raises SaeError."""
        cfg = read_json(self.path / CFG)
        if "d_sae" not in cfg and {"expansion_factor", "num_latents"} & set(cfg):
            raise _sparsify(self.path, self.path)
        if not {"d_in", "d_sae"} <= set(cfg):
            raise SaeError(f"{self.path / CFG} is no SAELens config: it has no d_in or no d_sae")
        return cfg

    def load(self) -> Any:
        """The SAE in float32, the activation scaling of an unfinished training folded in. Raises SaeError."""
        from sae_lens import SAE

        try:
            inner = SAE.load_from_disk(self.path, device="cpu", dtype="float32")
            self._fold(inner)
        except SaeError:
            raise
        except Exception as error:  # safetensors, torch and sae_lens, each with errors of its own
            raise SaeError(
                f"sae_lens cannot load {self.path}: {error_summary(error)}; download or save it again"
            ) from error
        return inner

    def _fold(self, inner: Any) -> None:
        """Checkpoints of a training keep the scaling of their activations in a file beside the weights."""
        how = inner.cfg.normalize_activations
        if how == "expected_average_only_in":
            factor = read_json(self._beside(SCALER, how)).get("scaling_factor")
            if not isinstance(factor, int | float):
                raise SaeError(f"{self.path / SCALER} has no scaling_factor")
            inner.fold_activation_norm_scaling_factor(float(factor))
        elif how == "covariance_whitening":
            from safetensors.torch import load_file

            whitening = load_file(self._beside(WHITENING, how))
            inner.fold_activation_whitening(
                whitening["mean"], whitening["matrix"], whitening["inverse_matrix"]
            )

    def _beside(self, name: str, how: str) -> Path:
        if not (self.path / name).is_file():
            raise SaeError(
                f"{self.path / CFG} says normalize_activations: {how}, but {name} is not beside it, so its "
                "input scale is unknown; save the SAE after sae_lens has folded the scale in"
            )
        return self.path / name


def find_folder(release: str, sae_id: str | None) -> Path | None:
    """The folder `sae.release` (and `sae.id` below it) means; None when it is no folder at all.

    Raises SaeError for a path that does not exist, a sparsify folder, and a folder without an SAE.
    """
    root = Path(release).expanduser()
    if not root.is_dir():
        if release.startswith(("/", ".", "~")):
            raise SaeError(f"sae.release={release}: no such folder")
        return None
    path = root / sae_id if sae_id else root
    refuse_sparsify(path)
    if (path / CFG).is_file():
        return path
    below = sorted(
        folder.relative_to(root).as_posix()
        for folder in root.glob("**/")
        if (folder / WEIGHTS).is_file() or (folder != root and _format(folder) not in (None, SPARSIFY))
    )
    if below:
        raise SaeError(
            f"{path} holds no SAE itself; choose one below {root} with sae.id: {choices(below, 12)}"
        )
    for weights in sorted(root.glob(f"**/{SPARSIFY_WEIGHTS}")):
        refuse_sparsify(weights.parent, root)
    files = [file.relative_to(root).as_posix() for file in sorted(root.glob("**/*")) if file.is_file()]
    raise SaeError(
        f"{path} holds no SAE in a known format; looked for SAELens ({CFG}, {WEIGHTS}), {looked_for()}; its "
        f"files: {choices(files, 12) or 'none'}"
    )


def folder_of_another_format(release: str, sae_id: str | None) -> Path | None:
    """The folder of an SAE that is neither SAELens' nor sparsify's and that is read without sae_lens."""
    root = Path(release).expanduser()
    path = root / sae_id if sae_id else root
    known = path.is_dir() and not (path / CFG).is_file() and _format(path) not in (None, SPARSIFY)
    return path if known else None


def _format(path: Path) -> str | None:
    return format_of([file.name for file in path.iterdir() if file.is_file()])


def refuse_sparsify(path: Path, root: Path | None = None) -> None:
    """Raise SaeError for a sparsify folder; `root` is the folder to give to `sae=hub`."""
    if (path / SPARSIFY_WEIGHTS).is_file() and not (path / WEIGHTS).is_file():
        raise _sparsify(path, root or path)


def _sparsify(path: Path, root: Path) -> SaeError:
    # sae_lens has a loader for it, which transposes W_dec and leaves b_dec out of the encoder
    return SaeError(
        f"{path} is in sparsify layout, which sae_lens does not read correctly; use sae=hub sae.repo={root}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file. Raises SaeError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SaeError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise SaeError(f"{path} is no JSON object")
    return value


def error_summary(error: Exception) -> str:
    """Type and text of a library's error, at most 300 characters, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"
