"""Several processes, several devices and streamed data give the record of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENT = Path(__file__).parents[1] / "runs" / "two_arms.py"


def started(data_dir, workdir, *flags, **env):
    """launch.py on a tiny experiment."""
    command = [sys.executable, "launch.py", f"--experiment={EXPERIMENT}", "--scale=smoke", "--set=train.epochs=1"]
    command += [f"--data_dir={data_dir}", f"--workdir={workdir}", *flags]
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | env
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(workdir, *processes):
    """The record, and the output of each process."""
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return json.loads((workdir / "record.json").read_text()), outputs


@pytest.fixture(scope="module")
def plain(data_dir, tmp_path_factory):
    """Two seeds, one after the other, on one device."""
    workdir = tmp_path_factory.mktemp("plain")
    return finished(workdir, started(data_dir, workdir, "--seeds=2"))[0]


def assert_same(record, plain, seeds):
    """Every arm of the first seeds counts the same, but for images on the edge between classes."""
    assert record["arms"].keys() == plain["arms"].keys() and len(record["seeds"]) == seeds
    for arm, metrics in plain["arms"].items():
        for name in ("clean_accuracy", "attack_success_rate", "robust_accuracy"):
            expected, measured = (of[name]["per_seed"][:seeds] for of in (metrics, record["arms"][arm]))
            np.testing.assert_allclose(measured, expected, atol=0.05, err_msg=f"{arm} {name}")


def test_streamed_data_gives_the_same_record(plain, data_dir, tmp_path):
    record, (output,) = finished(tmp_path, started(data_dir, tmp_path, "--stream"))
    assert_same(record, plain, 1)
    assert output.count("first training steps done after") == 1


def test_one_seed_per_device_gives_the_same_record(plain, data_dir, tmp_path):
    record, _ = finished(tmp_path, started(data_dir, tmp_path, "--seeds=2", "--cpu_devices=2"))
    assert_same(record, plain, 2)
    assert record["environment"]["device_count"] == 2


def test_two_processes_give_the_same_record_and_one_writes(plain, data_dir, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    workers = [started(data_dir, tmp_path, "--distributed", JAX_PROCESS_ID=str(i), **job) for i in range(2)]
    record, (first, second) = finished(tmp_path, *workers)
    assert_same(record, plain, 1)
    assert "report.md" in first and "report.md" not in second


def test_distributed_without_a_job_is_refused(data_dir, tmp_path):
    alone = started(data_dir, tmp_path, "--distributed")
    output, _ = alone.communicate(timeout=60)
    assert alone.returncode == 2 and "--distributed: no job of several processes was found" in output
    assert "Traceback" not in output and not any(tmp_path.iterdir())
