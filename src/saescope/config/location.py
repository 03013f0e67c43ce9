"""Where conf/ lies: beside the package in a wheel, at the top of a checkout."""

from pathlib import Path


def config_dir() -> str:
    """Absolute path of conf/, found next to this package (conventions: a relative path breaks in a wheel)."""
    package = Path(__file__).resolve().parents[1]
    for conf in (package / "conf", package.parents[1] / "conf"):
        if (conf / "config.yaml").is_file():
            return str(conf)
    raise FileNotFoundError(f"saescope is installed without its conf/ folder (looked beside {package})")
