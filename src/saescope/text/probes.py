"""`probes.source` → tasks with their documents."""

from saescope.config import ProbesConfig
from saescope.text.documents import Probes


def open_probes(cfg: ProbesConfig) -> Probes:
    """The tasks of the source; no document is read yet.

    Raises ProbeError when the source is not there or has fewer than two tasks.
    """
    # Each source is imported only where it is chosen: the Hub's client takes a second.
    match cfg.source:
        case "embedded" | "folder":
            from saescope.text.probe_folder import open_folder

            return open_folder(cfg)
        case "languages":
            from saescope.text.probe_languages import open_languages

            return open_languages(cfg)
        case "standard":
            from saescope.text.probe_standard import open_standard

            return open_standard()
        case "manifest":
            from saescope.text.probe_manifest import open_manifest

            return open_manifest(cfg)
        case other:
            raise AssertionError(f"{other} is no probe source")
