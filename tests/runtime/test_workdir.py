"""A workdir has one process, one config and complete files only, and a signal loses nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poisonjax.runtime import workdir
from poisonjax.runtime.workdir import (
    Interrupt,
    WorkdirError,
    cached_json,
    claim,
    locked,
    verified,
    with_checksum,
    write_atomic,
)

HOLD = """
import sys, time
from poisonjax.runtime.workdir import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / 'run'."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_second_process_is_refused_with_the_id_of_the_first(holder, tmp_path):
    with pytest.raises(WorkdirError) as error, locked(tmp_path / "run"):
        pass
    assert str(tmp_path / "run") in one_line(error)
    assert f"process {holder.pid};" in one_line(error)


def test_kill_9_of_the_holder_unlocks_the_folder(holder, tmp_path):
    holder.kill()
    holder.wait()
    with locked(tmp_path / "run") as folder:
        assert (folder / ".lock").read_text() == f"{os.getpid()}\n"


def test_folder_is_unlocked_while_a_forked_child_lives(tmp_path):
    with locked(tmp_path / "run"):
        child = subprocess.Popen(["sleep", "60"], pass_fds=_descriptors(tmp_path / "run/.lock"))
    try:
        with locked(tmp_path / "run"):
            pass
    finally:
        child.kill()
        child.wait()


def _descriptors(path: Path) -> list[int]:
    links = {int(link.name): os.path.realpath(link) for link in Path("/proc/self/fd").iterdir() if link.exists()}
    return [number for number, target in links.items() if target == str(path)]


def test_error_names_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(WorkdirError, match="file cannot be used: File exists") as error,
        locked(tmp_path / "file"),
    ):
        pass
    one_line(error)


CONFIG = {
    "poison": {"rate": 0.1, "target": 9},
    "seeds": (0, 1),
    "lr": float("nan"),
    "attack": None,
    "x": {},
    "arms": [{"name": "plain", "adversarial": False}],
}


def test_same_config_can_claim_again(tmp_path):
    with locked(tmp_path / "run") as folder:
        claim(folder, CONFIG)
        before = (folder / "config.json").read_bytes()
        claim(folder, {**dict(reversed(CONFIG.items())), "arms": [{"adversarial": False, "name": "plain"}]})
        assert (folder / "config.json").read_bytes() == before
    assert json.loads(before)["format"] == workdir.FORMAT


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"poison": {"rate": 0.2, "target": 9}}, "(poison.rate is 0.1 there, 0.2 here);"),
        (
            {"attack": {"eps": 0.3}},
            "(attack.eps is absent there, 0.3 here; attack is null there, absent here);",
        ),
        ({"x": True}, "(x is {} there, true here);"),
        (
            {"poison": {}, "seeds": [], "lr": 1},
            "seeds is [0, 1] there, [] here; lr is NaN there, 1 here and 2 more);",
        ),
    ],
)
def test_different_config_is_refused_with_both_values(tmp_path, changed, message):
    claim(tmp_path, CONFIG)
    with pytest.raises(WorkdirError) as error:
        claim(tmp_path, {**CONFIG, **changed})
    assert message in one_line(error)
    assert one_line(error).startswith(f"{tmp_path}/config.json belongs to a different run (")
    assert one_line(error).endswith("choose another folder")


def test_entries_may_be_added_to_lists_that_grow(tmp_path):
    more = {**CONFIG, "arms": [{"name": "new"}, *CONFIG["arms"]]}
    claim(tmp_path, CONFIG)
    with pytest.raises(WorkdirError, match=r"arms is .* there"):
        claim(tmp_path, more)
    claim(tmp_path, more, growing=("arms",))
    assert json.loads((tmp_path / "config.json").read_bytes())["config"]["arms"] == more["arms"]
    with pytest.raises(WorkdirError, match=r"arms is .* there"):
        claim(tmp_path, CONFIG, growing=("arms",))
    with pytest.raises(WorkdirError, match=r"poison.* there"):
        claim(tmp_path, {**more, "poison": None}, growing=("arms",))


def test_one_and_true_are_different_values(tmp_path):
    claim(tmp_path, {"a": 1})
    with pytest.raises(WorkdirError, match="a is 1 there, true here"):
        claim(tmp_path, {"a": True})


def test_newer_format_is_refused_with_a_remedy(tmp_path):
    newer = workdir.FORMAT + 1
    (tmp_path / "config.json").write_text(json.dumps({"format": newer, "config": CONFIG}))
    with pytest.raises(WorkdirError) as error:
        claim(tmp_path, CONFIG)
    message = one_line(error)
    assert f"format {newer}" in message
    assert f"reads up to {workdir.FORMAT}" in message
    assert "use the version that wrote it" in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": "1", "config": {}}', b"\xff\xfe\x00"])
def test_unreadable_config_is_named_and_kept(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WorkdirError) as error:
        claim(tmp_path, CONFIG)
    assert f"{tmp_path / 'config.json'} cannot be read" in one_line(error)
    assert (tmp_path / "config.json").read_bytes() == content


def test_folder_with_foreign_files_is_not_written_to(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with locked(tmp_path), pytest.raises(WorkdirError, match=r"not empty \(thesis.tex\)"):
        claim(tmp_path, CONFIG)
    assert sorted(os.listdir(tmp_path)) == [".lock", "thesis.tex"]


def test_claim_succeeds_after_kill_9_in_the_first_claim(tmp_path):
    (tmp_path / ".config.json.4242.tmp").write_text('{"form')
    claim(tmp_path, CONFIG)
    claim(tmp_path, CONFIG)


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    write_atomic(tmp_path / "record.json", "old")
    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(OSError, match=r"record\.json") as error:
        write_atomic(tmp_path / "record.json", "new")
    assert error.value.errno == errno.ENOSPC
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"record.json": "old"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here, the device that is always full")
def test_full_disk_leaves_the_old_file(tmp_path):
    write_atomic(tmp_path / "record.json", "old")
    (tmp_path / f".record.json.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*record\.json'"):
        write_atomic(tmp_path / "record.json", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"record.json": "old"}


def test_write_is_synced_before_the_rename(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    write_atomic(tmp_path / "a", "é")
    write_atomic(tmp_path / "a", b"\x00\xff")
    assert calls == ["fsync", "replace", "fsync"] * 2
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"


def test_cached_json_computes_once_and_returns_the_same_both_times(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"rate": 0.1 + 0.2, "shape": (3, 4), 5: float("inf")}

    first = cached_json(tmp_path / "surrogate.json", compute)
    assert first == {"rate": 0.1 + 0.2, "shape": [3, 4], "5": float("inf")}
    assert cached_json(tmp_path / "surrogate.json", compute) == first
    assert len(calls) == 1


def test_cached_json_never_returns_a_damaged_result(tmp_path):
    path, value = tmp_path / "surrogate.json", {"accuracy": 0.9371, "digits": [1, 2, 3]}
    cached_json(path, lambda: value)
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    warnings = []
    for content in [*damaged, b"", whole[:-3], b"[]", b"{}"]:
        path.write_bytes(content)
        assert cached_json(path, lambda: value, warn=warnings.append) == value
        assert cached_json(path, lambda: pytest.fail("written again, so not computed again")) == value
    assert len(warnings) > len(whole) * 0.8  # the rest only changed white space
    assert all(line.startswith(f"{path} is damaged (") and "\n" not in line for line in warnings)


def test_cached_json_stores_no_failure(tmp_path):
    with pytest.raises(ZeroDivisionError):
        cached_json(tmp_path / "surrogate.json", lambda: {"a": 1 / 0})
    assert list(tmp_path.iterdir()) == []


def test_checksum_does_not_depend_on_the_order_of_keys():
    assert verified({"content": {"b": 1, "a": 2}, "sha256": with_checksum({"a": 2, "b": 1})["sha256"]}) == {
        "a": 2,
        "b": 1,
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_becomes_a_flag_and_the_handlers_come_back(number):
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with Interrupt() as interrupt:
        assert interrupt.requested is None
        signal.raise_signal(number)
        assert interrupt.requested == number.name
        signal.raise_signal(signal.SIGTERM)  # asked again by a scheduler: still finishes the step
        assert interrupt.requested == number.name
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_request_stops_at_once_and_the_handlers_come_back(first):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt():
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
