"""`saescope-feature`: one latent of a finished run in the terminal, also on the user's own text."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saescope.errors import SaescopeError
from saescope.version import __version__

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def main() -> int:
    """`saescope-feature RUN LATENT [--text TEXT]`. Returns the exit code."""
    parser = ArgumentParser(
        "saescope-feature",
        description="One latent of a finished run: numbers, contexts, tokens it fires on, neighbours.",
    )
    parser.add_argument("--version", action="version", version=f"saescope {__version__}")
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("latent", metavar="LATENT", type=int, help="number of the latent, 0-based")
    parser.add_argument("--text", help="also run model and SAE of the run on this text and shade its tokens")
    args = parser.parse_args()
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    try:
        _print(console, args.run, args.latent)
        if args.text is not None:
            _print_text(console, args.run, args.latent, args.text)
    except (SaescopeError, OSError) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        print(f"saescope-feature: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-feature: interrupted", file=sys.stderr)
        return 130
    return 0


def _print(console: "Console", folder: Path, latent: int) -> None:
    """What `features.html` shows of it."""
    from rich.table import Table

    from saescope.report.latents_page import latent_facts

    facts = latent_facts(folder, latent)
    console.print(f"latent {latent} of {folder}")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.numbers:
        table.add_row(name, value)
    console.print(table)
    for title, lines in facts.lists:
        console.print(f"{title}: " + ", ".join(lines))
    if facts.contexts:
        console.print("contexts (shaded: the latent is active; [ ]: the token the context is about)")
    for context in facts.contexts:
        task, document, quantile, about, words, acts = context
        line = shaded(words, acts, about, facts.largest)
        where = f"{quantile}th percentile" if quantile else "strong"
        line.append(f"   {facts.tasks[task]}, document {document}, {where}, {acts[about]:g}", style="dim")
        console.print(line)


def _print_text(console: "Console", folder: Path, latent: int, text: str) -> None:
    from saescope.jobs.reread import activations_on_text

    words, acts = activations_on_text(folder, latent, text)
    console.print(
        "your text (the first tokens of a context do not count in the run, and are shaded here too)"
    )
    console.print(shaded(words, acts, None, max(acts, default=0.0)))
    active = [f"{word!r} {act:.3g}" for word, act in zip(words, acts, strict=True) if act > 0]
    console.print("active on: " + (", ".join(active) or "no token"))


def shaded(words: list[str], acts: list[float], about: int | None, largest: float) -> "Text":
    """The words on a background the stronger the larger the activation; the word `about` in brackets."""
    from rich.text import Text

    line = Text()
    for place, (word, act) in enumerate(zip(words, acts, strict=True)):
        style: Any = None
        if act > 0:
            strength = min(1.0, act / largest) if largest > 0 else 1.0
            style = f"black on rgb(255,{round(235 - 110 * strength)},{round(205 - 190 * strength)})"
        line.append(f"[{word}]" if place == about else word, style=style)
    return line
