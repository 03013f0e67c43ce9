"""Where conf/ is: beside the package in a wheel, at the top of a checkout."""

from pathlib import Path


def config_dir() -> str:
    """Absolute path of conf/; a relative path would not work in a wheel."""
    package = Path(__file__).resolve().parents[1]
    for conf in (package / "conf", package.parents[1] / "conf"):
        if (conf / "config.yaml").is_file():
            return str(conf)
    raise FileNotFoundError(f"saescope is installed without its conf/ folder (looked beside {package})")
