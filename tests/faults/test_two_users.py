"""One cache, two users: what one wrote the other can use, or says in a line that it cannot. Needs root."""

import os
import pickle
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.killed_at import Job, Moment, User, refused_in_one_line
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_files import everything
from tests.faults.test_shared_work import SMALL, left_by_the_dead

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two users"),
]

GROUP = 61000
FIRST, SECOND = User(61001, GROUP, 0o002), User(61002, GROUP, 0o002)
TRAIN = [
    *SMALL, "sae=train", "sae.expansion_factor=2", "sae.k=8", "sae.tokens=8000", "sae.batch_tokens=1024",
    "sae.save_every=2", "corpus.holdout_tokens=1024", "hookpoint.layer=1", "corpus=local",
]  # fmt: skip
"""The embedded training text is read from Python's own library, which may lie in a closed folder."""


@pytest.fixture
def shared():
    """A folder of the group, outside pytest's own, which is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="saescope-users-"))
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    sentences = [
        f"The {n} people of village {n * n} had {n % 7} wells and {n % 11} mills." for n in range(900)
    ]
    (folder / "corpus.txt").write_text("\n\n".join(sentences))
    yield folder
    shutil.rmtree(folder)


def train(shared: Path, *words: str) -> list[str]:
    return [*TRAIN, f"corpus.path={shared / 'corpus.txt'}", *words]


def finish(folder: Path, user: User, words: list[str]) -> str:
    job = Job(folder, words, user=user)
    assert job.ended() == 0, job.said()
    return job.said()


def test_the_other_user_goes_on_where_one_was_killed(shared):
    words = train(shared, "hydra.run.dir=first")
    for moment in (
        Moment("open", r"\.shard-", 3),
        Moment("os.rename", r"checkpoint\.pt", 2),
        Moment("os.rename", r"first/metrics\.json"),
    ):
        job = Job(shared, words, moment, FIRST)
        assert job.ended() == -9, job.said()
    finish(shared, SECOND, words)  # in the folder, with the training, the rows and the locks of the dead
    check_whole(shared)
    assert not left_by_the_dead(shared)
    finish(shared, FIRST, train(shared, "hydra.run.dir=again", "force=true"))
    assert everything(shared / "first") == everything(shared / "again")
    assert "finished result" in finish(shared, FIRST, train(shared, "hydra.run.dir=third"))


def test_entries_that_only_their_owner_may_write_are_read(shared):
    for name in ("cache", "cache/tokens", "cache/activations", "one", "two"):
        (shared / name).mkdir()
        os.chown(shared / name, 0, GROUP)
        (shared / name).chmod(0o2775)
    cache = f"runtime.cache={shared / 'cache'}"
    words = train(shared, cache, "hydra.run.dir=run")
    finish(shared / "one", FIRST._replace(umask=0o027), words)
    for lock in (shared / "cache").glob("*.lock"):
        lock.chmod(0o664)
    before = {path: path.stat().st_mtime_ns for path in (shared / "cache").rglob("*.safetensors")}
    assert before
    finish(shared / "two", SECOND, words)
    log = (shared / "two" / "run" / "saescope.log").read_text()
    assert "another user's: it is only read" in log
    assert "activation cache: hit" in log
    assert {path: path.stat().st_mtime_ns for path in (shared / "cache").rglob("*.safetensors")} == before
    assert everything(shared / "one" / "run") == everything(shared / "two" / "run")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_cache_that_only_its_owner_may_write_is_named(shared, umask):
    cache = shared / "cache"
    cache.mkdir()
    os.chown(cache, FIRST.uid, GROUP)
    cache.chmod(0o777 & ~umask)
    job = Job(shared, train(shared, "hydra.run.dir=run"), user=SECOND)
    refused_in_one_line(job, "cannot write to the cache folder")


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_no_pickle_of_another_user_is_loaded(shared):
    """Every file that a job reads again is replaced by a pickle that leaves a trace."""
    job = Job(shared, train(shared, "hydra.run.dir=run"), Moment("os.rename", r"run/metrics\.json"), FIRST)
    assert job.ended() == -9, job.said()
    trace, files = shared / "trace", []
    for path in shared.rglob("*"):
        if path.suffix in (".pt", ".safetensors", ".npz", ".i32", ".json", ".parquet"):
            path.write_bytes(pickle.dumps(Evil(trace)))
            files.append(path.name)
    assert "checkpoint.pt" in files
    job = Job(shared, train(shared, "hydra.run.dir=run"), user=SECOND)
    refused_in_one_line(job, "checkpoint.pt is no readable training checkpoint")
    next(shared.rglob("checkpoint.pt")).unlink()
    finish(shared, SECOND, train(shared, "hydra.run.dir=run"))
    check_whole(shared / "run")
    assert not trace.exists()
    with pytest.raises(AttributeError):
        pickle.loads(pickle.dumps(Evil(trace))).none  # noqa: B018 - the trap works
    assert trace.exists()
