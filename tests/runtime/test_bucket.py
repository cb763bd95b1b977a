"""A workdir in a bucket behaves like a folder: the next process resumes from it, and only one process writes."""

import time

import fsspec
import pytest

from poisonjax.runtime.bucket import BucketError, claimed, local
from poisonjax.runtime.workdir import Interrupt, WorkdirError, write_atomic


@pytest.fixture
def url(request):
    """An empty folder of a store that lives in this process."""
    return f"memory://b/{request.node.name}"


def content(url):
    """What a reader of the bucket sees."""
    store, root = fsspec.url_to_fs(url)
    return {path[len(root) + 1 :]: store.cat_file(path).decode() for path in store.find(root) if ".owner" not in path}


def until(condition):
    """Wait until the condition is true."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the condition was false for 5 s")


def test_bucket_contains_the_folder_for_the_next_process(url):
    with claimed(url, {"a": 1}) as folder:
        (folder / "seed0").mkdir()
        for name in ("old", "same", "seed0/state"):
            write_atomic(folder / name, name)
    kept = content(url)
    assert kept.keys() == {"config.json", "old", "same", "seed0/state"} and not folder.exists()
    with claimed(url, {"a": 1}) as folder:
        assert {name: (folder / name).read_text() for name in kept} == kept
        (folder / "old").unlink()
        write_atomic(folder / "seed0" / "state", "changed")
    assert content(url) == {**{name: kept[name] for name in ("config.json", "same")}, "seed0/state": "changed"}


def test_complete_files_are_uploaded_during_the_run(url):
    with claimed(url, {}, every=0) as folder:
        for name in (".hidden", "5.orbax-checkpoint-tmp-1/state", "6/state"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("x")
        until(lambda: "6/state" in content(url))
        assert content(url).keys() == {"config.json", "6/state"}


def test_reading_a_bucket_does_not_change_it(url):
    with claimed(url, {}) as folder:
        (folder / "record.json").write_text("1")
        store, root = fsspec.url_to_fs(url)
        owner = store.cat_file(f"{root}/.owner")
    with local(url) as copy:
        (copy / "record.json").write_text("2")
    assert content(url)["record.json"] == "1" and store.cat_file(f"{root}/.owner") == owner and not copy.exists()


def test_second_process_takes_over_the_bucket(url):
    taken = pytest.raises(BucketError, match="taken over by another process")
    with Interrupt() as interrupt, taken, claimed(url, {}, every=0) as first:
        with claimed(url, {}) as second:
            (second / "mine").write_text("second")
            (first / "mine").write_text("first")
            until(lambda: interrupt.requested == "SIGINT")
        assert content(url)["mine"] == "second"
    assert content(url)["mine"] == "second"


def refused(url):
    with pytest.raises(WorkdirError) as caught, claimed(url, {"a": 1}):
        pass
    assert "\n" not in str(caught.value) and url in str(caught.value)
    return str(caught.value)


def test_bucket_of_a_different_run_is_refused_and_keeps_its_owner(url):
    with claimed(url, {"a": 2}, every=0):
        assert "config.json belongs to a different run (a is 2 there, 1 here); choose another folder" in refused(url)
        time.sleep(1.5)  # the owner uploads again and is still the owner


def test_bucket_with_foreign_files_is_refused_and_unchanged(url):
    store, root = fsspec.url_to_fs(url)
    store.pipe_file(f"{root}/photo.jpg", b"mine")
    assert "is not empty (photo.jpg) and is not a poisonjax workdir (no config.json)" in refused(url)
    assert content(url) == {"photo.jpg": "mine"} and not store.exists(f"{root}/.owner")


def test_unknown_or_missing_store_is_one_line():
    assert "Protocol not known: nosuch" in refused("nosuch://b/run")
    fsspec.register_implementation("absent", "no.such.Store", errtxt="Please install absentfs")
    assert "Please install absentfs" in refused("absent://b/run")


def test_failed_upload_is_reported_retried_and_leaves_the_files(url, monkeypatch):
    warnings = []
    with pytest.raises(BucketError, match="OSError: full") as caught, claimed(url, {}, 0, warnings.append) as folder:
        monkeypatch.setattr(type(fsspec.url_to_fs(url)[0]), "put_file", full)
        (folder / "result").write_text("precious")
        until(lambda: len(warnings) > 1)
    assert "the next try is in 1 s" in warnings[0] and str(folder) in str(caught.value)
    assert (folder / "result").read_text() == "precious"


def full(*_):
    raise OSError("full")


def test_unwritable_bucket_is_refused_at_once(url, monkeypatch):
    monkeypatch.setattr(type(fsspec.url_to_fs(url)[0]), "pipe_file", full)
    assert "cannot be written (OSError: full)" in refused(url)
