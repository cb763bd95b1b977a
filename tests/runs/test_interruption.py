"""A run that is stopped, killed, damaged or starved of disk goes on, and ends in the same bits."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from poisonjax.runtime.workdir import locked
from tests.interruptions import command, finished, results, started, stopped


@pytest.fixture(scope="module")
def flags(data_dir):
    """Long enough to be hit in each arm."""
    experiment = Path(__file__).parent / "two_arms.py"
    return [f"--experiment={experiment}", "--scale=smoke", "--set=train.epochs=24", f"--data_dir={data_dir}"]


@pytest.fixture(scope="module")
def calm(flags, tmp_path_factory):
    """The results of a run without interruptions."""
    workdir = tmp_path_factory.mktemp("calm")
    finished(workdir, *flags)
    return results(workdir)


def saved(workdir, arm, enough=1):
    """Waits until the arm has so many checkpoints; the folders."""
    for _ in range(600):
        found = sorted((workdir / "seed0" / arm / "checkpoints").glob("[0-9]*"), key=lambda path: path.name.zfill(9))
        found = [path for path in found if path.name.isdigit()]
        if len(found) >= enough:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no checkpoint of {arm} in {workdir} within a minute")


def asked(process, number):
    """Sends the signal; exit status and what was said."""
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def test_kill_nine_at_random_moments_loses_nothing(calm, flags, tmp_path):
    draw, begin = random.Random(0), time.monotonic()
    process = started(tmp_path, *flags)
    saved(tmp_path, "standard")
    length = time.monotonic() - begin
    process.kill()
    process.communicate()
    hits = sum(stopped(started(tmp_path, *flags), signal.SIGKILL, length + draw.uniform(0, 4)) for _ in range(3))
    assert hits, "no kill came before the end: the run is too short for this test"
    finished(tmp_path, *flags)
    assert results(tmp_path) == calm


def test_stopped_on_request_then_damaged_then_finished(calm, flags, tmp_path):
    process = started(tmp_path, *flags)
    saved(tmp_path, "standard")
    status, said = asked(process, signal.SIGTERM)
    assert status == 130 and "which is saved; run the same command again to resume" in said and "Traceback" not in said

    with locked(tmp_path):
        second = subprocess.run(command(tmp_path, *flags), capture_output=True, text=True)
    assert second.returncode == 2 and f"in use by process {os.getpid()}" in second.stderr

    process = started(tmp_path, *flags)
    saved(tmp_path, "pgd_at", enough=2)
    status, said = asked(process, signal.SIGINT)
    assert status == 130 and "Traceback" not in said
    assert said.count("stopping after this step; Ctrl-C again to stop at once") == 1

    newest = saved(tmp_path, "pgd_at", enough=2)[-1]
    largest = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    said = finished(tmp_path, *flags)
    assert f"{newest.name} is damaged" in said and "is used instead" in said
    assert results(tmp_path) == calm


def test_killed_run_resumes_on_another_machine_from_a_bucket(calm, flags, tmp_path, monkeypatch):
    """A folder that is spoken to as a store; nothing else of the first run is used."""
    monkeypatch.setenv("FSSPEC_FILE_AUTO_MKDIR", "true")
    there = tmp_path / "bucket"
    process = started(f"file://{there}", *flags)
    saved(there, "pgd_at")
    process.kill()
    process.communicate()
    assert f"file://{there}/report.md" in finished(f"file://{there}", *flags)
    assert results(there) == calm


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or os.geteuid()
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", folder]).returncode
    ):
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(calm, flags, small_disk):
    ended = subprocess.run(command(small_disk, *flags), capture_output=True, text=True)
    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    assert not (small_disk / "record.json").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    finished(small_disk, *flags)
    assert results(small_disk) == calm
