"""Boolean formulas: their values and truth tables."""

from __future__ import annotations

import itertools

from saescope.text.embedded.scribe import Scribe


def truth_table(scribe: Scribe) -> str:
    """The table of a formula in two or three variables."""
    variables = scribe.some(["p", "q", "r", "s", "a", "b"], scribe.number(2, 3))
    formula = _formula(scribe, variables, scribe.number(1, 3))
    rows = [f"{' '.join(variables)} | {formula}"]
    for values in itertools.product([True, False], repeat=len(variables)):
        result = _value(formula, dict(zip(variables, values, strict=True)))
        rows.append(f"{' '.join('T' if v else 'F' for v in values)} | {'T' if result else 'F'}")
    true = sum(row.endswith("T") for row in rows[1:])
    title = scribe.say(
        "[Truth table of|Write the truth table for|Make a table of all values of] {f}", f=formula
    )
    return "\n".join([title, *rows, f"The formula is true in {true} of {len(rows) - 1} rows."])


def boolean(scribe: Scribe) -> str:
    """Evaluate boolean expressions of literals or of given variables."""
    lines = [scribe.say("[Evaluate each expression.|Boolean expressions|True or False?]")]
    variables = scribe.some(["x", "y", "z", "w"], 3)
    values = {v: scribe.chance(0.5) for v in variables}
    if scribe.chance(0.5):
        lines.append("Let " + ", ".join(f"{v} = {values[v]}" for v in variables) + ".")
        lines += [
            f"{f} is {_value(f, values)}"
            for f in (_formula(scribe, variables, scribe.number(1, 3)) for _ in range(scribe.number(2, 6)))
        ]
    else:
        for _ in range(scribe.number(2, 7)):
            f = _formula(scribe, ["True", "False"], scribe.number(1, 4))
            lines.append(f"{f} = {_value(f, {'True': True, 'False': False})}")
    return "\n".join(lines)


def _formula(scribe: Scribe, names: list[str], depth: int) -> str:
    if depth == 0:
        return scribe.pick([*names, f"not {scribe.pick(names)}"])
    left, right = _formula(scribe, names, depth - 1), _formula(scribe, names, scribe.number(0, depth - 1))
    joined = f"{_bracketed(left)} {scribe.pick(['and', 'or'])} {_bracketed(right)}"
    return f"not ({joined})" if scribe.chance(0.2) else joined


def _bracketed(formula: str) -> str:
    return f"({formula})" if " and " in formula or " or " in formula else formula


def _value(formula: str, values: dict[str, bool]) -> bool:
    """Evaluate a formula written by `_formula` (names, not, and, or, brackets)."""
    return bool(eval(formula, {"__builtins__": {}}, dict(values)))
