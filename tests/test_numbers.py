"""Every measured number of README and docs stands in docs/numbers.md with its command, and nothing else does.

README, first run, dynamic k, calibration, audit, reliability and every table with a source: every number in
figures that `scripts/quoted_numbers.yaml` does not list as a setting. Other pages: what has the shape of a
measurement.
"""

import pytest
from scripts import quoted_numbers as numbers

MEND = "run python scripts/quoted_numbers.py, and with --write when the sources are right"


@pytest.fixture(scope="module")
def sources():
    return numbers.contents()


@pytest.fixture(scope="module")
def texts():
    return numbers.pages()


@pytest.fixture(scope="module")
def listed():
    return numbers.listed_in((numbers.ROOT / numbers.LIST).read_text(encoding="utf-8"))


def faults(texts, sources, listed):
    now, without_source = numbers.rows(texts, sources)
    return without_source + numbers.differences(now, listed)


def test_the_list_is_that_of_the_pages(texts, sources, listed):
    assert faults(texts, sources, listed) == [], MEND


def test_every_command_and_result_file_exists(texts, sources):
    assert numbers.lacking(sources, texts) == []


@pytest.mark.parametrize(
    ("page", "old", "new", "number"),
    [
        ("README.md", "│ 0.0877  │", "│ 0.0878  │", "0.0878"),
        ("README.md", "MIT licence.", "MIT licence. It is 7 times as fast.", "7"),
        ("README.md", "MIT licence.", "MIT licence. It took 12.5 seconds.", "12.5"),
        (
            "docs/saes.md",
            "## What `cfg.json` decides",
            "It reads 3.5 GB.\n\n## What `cfg.json` decides",
            "3.5",
        ),
    ],
)
def test_a_number_that_is_not_in_the_list_is_noticed(texts, sources, listed, page, old, new, number):
    assert old in texts[page]
    changed = {**texts, page: texts[page].replace(old, new)}
    assert any(line.startswith(page) and f" {number} (" in line for line in faults(changed, sources, listed))


def test_a_number_that_is_no_longer_in_the_text_is_noticed(texts, sources, listed):
    changed = {**texts, "README.md": texts["README.md"].replace("│ 0.0877  │", "│         │")}
    (fault,) = faults(changed, sources, listed)
    assert fault.startswith(f"{numbers.LIST}: 0.0877 ")


def test_settings_code_names_and_dates_are_no_measurements():
    text = "At `x=0.5` of Pythia-70m on 26 November 2026 (arXiv 2501.16615): 0.25, 1,000–2,000 and 9e-3.\n"
    assert [number.text for number in numbers.read("x.md", text).numbers] == [
        "0.25",
        "1,000",
        "2,000",
        "9e-3",
    ]


def test_cells_are_found_by_row_and_column():
    text = "| what | ratio (range) |\n|---|---|\n| job at 5 | 1.5 (1–2) |\n"
    read = numbers.read("x.md", text).numbers
    assert [(it.text, it.where, it.is_label) for it in read if not it.is_label] == [
        (value, "job at 5 · ratio (range)", False) for value in ("1.5", "1", "2")
    ]
