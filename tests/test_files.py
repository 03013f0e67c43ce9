"""Files are written completely or not at all; what a killed writer left can be told and removed."""

import pytest

from saescope.files import remove_leftovers, whole, write_text


def test_a_failed_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "before")

    def fail():
        with whole(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "before"


def test_leftovers_of_one_file_or_all(tmp_path):
    others = [".hydra", ".lock", "a[1].json", ".a.json.swp"]
    for name in others:
        (tmp_path / name).touch()
    leftovers = []
    for name in ("a[1].json", "a1.json", "checkpoint"):
        with whole(tmp_path / name) as temporary:
            leftovers.append(temporary.name)
        (tmp_path / name).rename(tmp_path / temporary.name)  # as if it had not come to that

    def names():
        return sorted(path.name for path in tmp_path.iterdir())

    remove_leftovers(tmp_path, "a[1].json")
    assert names() == sorted([*others[:2], others[3], *leftovers[1:]])
    remove_leftovers(tmp_path)
    assert names() == sorted([*others[:2], others[3]])
