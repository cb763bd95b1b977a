"""The result does not depend on how many devices or processes share the work."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT, WORKER = Path(__file__).parents[2], Path(__file__).parent / "worker.py"


def start(out, devices, *process):
    """The worker on so many forced host devices; without PJRT_NPROC their collectives hang on few cores."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    forced = {} if devices == 1 else {"XLA_FLAGS": flags, "PJRT_NPROC": str(2 * devices)}
    env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | forced
    command = [sys.executable, str(WORKER), str(out), *map(str, process)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(out, *workers):
    """The parameters that the first of the workers saved."""
    for worker in workers:
        said, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0, said
    return dict(np.load(out))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "one.npz"
    return finish(out, start(out, 1))


def assert_same(found, alone, devices):
    assert alone.pop("devices", 1) == 1 and found.pop("devices") == devices
    assert found.keys() == alone.keys()
    np.testing.assert_array_equal(found["over_rows"], np.arange(50) * 2 * 3)  # each row once, in order
    history = found["WongCNN/history"]  # each network of `each`, on a device of its own, is the one of them all
    np.testing.assert_allclose(found["apart"], np.broadcast_to(history, (3, *history.shape)), rtol=2e-3)
    assert found["freeresumed"] and alone["freeresumed"]
    for name, value in alone.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("devices", [8])  # two: as processes, below
def test_pmap_over_forced_devices_gives_what_jit_gives(devices, alone, tmp_path):
    out = tmp_path / "many.npz"
    assert_same(finish(out, start(out, devices)), dict(alone), devices)


def test_two_processes_on_loopback_give_what_one_gives(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outs = [tmp_path / f"process{number}.npz" for number in range(2)]
    workers = [start(out, 1, 2, number, port) for number, out in enumerate(outs)]
    found = finish(outs[0], *workers)
    assert_same(found, dict(alone), 2)
    np.testing.assert_equal(dict(np.load(outs[1])), dict(np.load(outs[0])))
