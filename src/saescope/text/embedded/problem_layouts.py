"""Layouts of a problem with its worked answer, and of a puzzle with its answer."""

from __future__ import annotations

from saescope.text.embedded.scribe import Scribe, sentence


def worked_problem(scribe: Scribe, text: str, question: str, work: list[str], answer: str) -> str:
    """Set a problem, its steps and its answer in one of five layouts."""
    layout = scribe.number(0, 4)
    if layout == 0:
        return f"Question: {text} {question}\nAnswer: {'. '.join(work)}. The answer is {answer}."
    if layout == 1:
        steps = "\n".join(f"Step {i}: {step}" for i, step in enumerate(work, 1))
        return f"Problem: {text} {question}\n{steps}\nAnswer: {answer}"
    if layout == 2:
        joiner = scribe.pick([", then ", " and then ", "; next "])
        return f"{text} {question}\nWe compute {joiner.join(work)}. So the answer is {answer}."
    if layout == 3:
        return f"{text}\nQ: {question}\nA: {answer}, because {', and '.join(work)}."
    lines = "\n".join(f"  {step}" for step in work)
    return f"{sentence(text)} {question}\nSolution:\n{lines}\nResult: {answer}"


def posed_puzzle(scribe: Scribe, text: str, question: str, answer: str, note: str) -> str:
    """Set a puzzle, its question and its answer in one of four layouts."""
    text, question, layout = sentence(text), scribe.say(question), scribe.number(0, 3)
    if layout == 0:
        return f"Puzzle: {text}\nQuestion: {question}\nAnswer: {sentence(answer)}.{note}"
    if layout == 1:
        return f"{text} {question}\nThink step by step.{note}\nSo the answer is: {answer}."
    if layout == 2:
        return f"{text}\n{question} {sentence(answer)}.{note}"
    return f"Given: {text}\nAsked: {question}\nSolution: {sentence(answer)}.{note}"
