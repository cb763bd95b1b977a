"""Claims: a workdir in a bucket is what a folder is; the next process goes on from it; two never write at once."""

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


def until(what):
    """Waits until it is so."""
    for _ in range(100):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about within 5 s")


def test_the_bucket_has_what_the_folder_has_and_the_next_process_finds_it(url):
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


def test_it_is_copied_while_the_run_goes_on_but_for_what_is_unfinished(url):
    with claimed(url, {}, every=0) as folder:
        for name in (".hidden", "5.orbax-checkpoint-tmp-1/state", "6/state"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("x")
        until(lambda: "6/state" in content(url))
        assert content(url).keys() == {"config.json", "6/state"}


def test_the_bucket_is_read_only_where_it_is_only_read(url):
    with claimed(url, {}) as folder:
        (folder / "record.json").write_text("1")
        store, root = fsspec.url_to_fs(url)
        owner = store.cat_file(f"{root}/.owner")
    with local(url) as copy:
        (copy / "record.json").write_text("2")
    assert content(url)["record.json"] == "1" and store.cat_file(f"{root}/.owner") == owner and not copy.exists()


def test_who_comes_later_has_it_and_the_earlier_one_is_interrupted_and_writes_no_more(url):
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


def test_a_folder_of_another_run_is_refused_and_left_to_it(url):
    with claimed(url, {"a": 2}, every=0):
        assert "a is 2 there, 1 here: give another --workdir" in refused(url)
        time.sleep(1.5)  # the owner copies again, and is still the owner


def test_a_folder_of_somebody_else_is_refused_unread_and_unchanged(url):
    store, root = fsspec.url_to_fs(url)
    store.pipe_file(f"{root}/photo.jpg", b"mine")
    assert "is not empty (photo.jpg) and has no config.json" in refused(url)
    assert content(url) == {"photo.jpg": "mine"} and not store.exists(f"{root}/.owner")


def test_a_store_that_is_not_known_or_not_installed_is_said():
    assert "Protocol not known: nosuch" in refused("nosuch://b/run")
    fsspec.register_implementation("absent", "no.such.Store", errtxt="Please install absentfs")
    assert "Please install absentfs" in refused("absent://b/run")


def test_what_cannot_be_copied_is_said_tried_again_and_at_last_kept(url, monkeypatch):
    said = []
    with pytest.raises(BucketError, match="OSError: full") as caught, claimed(url, {}, 0, said.append) as folder:
        monkeypatch.setattr(type(fsspec.url_to_fs(url)[0]), "put_file", full)
        (folder / "result").write_text("precious")
        until(lambda: len(said) > 1)
    assert "tried again in 1 s" in said[0] and str(folder) in str(caught.value)
    assert (folder / "result").read_text() == "precious"


def full(*_):
    raise OSError("full")


def test_a_bucket_that_cannot_be_written_is_refused_at_once(url, monkeypatch):
    monkeypatch.setattr(type(fsspec.url_to_fs(url)[0]), "pipe_file", full)
    assert "cannot be written (OSError: full)" in refused(url)
