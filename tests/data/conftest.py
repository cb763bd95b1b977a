"""Fixtures: prepared data sets, one of each per session, and official raw files, real and small ones."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import official_files
import pytest

from poisonjax.data import prepare, sources

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def run(*args, **kwargs) -> subprocess.CompletedProcess:
    """A fresh interpreter in the repository root."""
    return subprocess.run([sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, **kwargs)


@pytest.fixture(scope="session", name="run")
def _run():
    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder from which the real official files are unpacked."""
    if not (SHARED / "unpack.py").exists():
        pytest.skip(f"no {SHARED}/unpack.py to make the official files with")
    return SHARED


def _unpacked(name: str, shared: Path, folder: Path) -> Path:
    done = run(shared / "unpack.py", folder, name)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def raw_mnist(shared, tmp_path_factory) -> Path:
    """A folder with mnist/: the four official files."""
    return _unpacked("mnist", shared, tmp_path_factory.mktemp("raw_mnist"))


@pytest.fixture(scope="session")
def mnist_dir(raw_mnist, tmp_path_factory) -> Path:
    """A data_dir with the real MNIST, prepared offline by the command that users run."""
    data_dir = tmp_path_factory.mktemp("mnist")
    done = run("-m", "poisonjax.data", "prepare", "mnist", "--from_raw", raw_mnist, "--data_dir", data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    expected = f"mnist 3.0.1 prepared in {data_dir}/mnist/3.0.1: 60,000 train, 10,000 test\n"
    assert done.stdout == expected
    return data_dir


@pytest.fixture(scope="session")
def raw_cifar10(shared, tmp_path_factory) -> Path:
    """A folder with cifar-10-batches-bin/: the six official files."""
    return _unpacked("cifar10", shared, tmp_path_factory.mktemp("raw_cifar10"))


@pytest.fixture(scope="session")
def cifar10_dir(raw_cifar10, tmp_path_factory) -> Path:
    """A data_dir with the real CIFAR-10, prepared offline."""
    data_dir = tmp_path_factory.mktemp("cifar10")
    prepare.prepared("cifar10", str(data_dir), str(raw_cifar10))
    return data_dir


@pytest.fixture
def small(request, monkeypatch) -> tuple[str, sources.Source, dict[str, bytes]]:
    """(name, source, content by file name) of a few random images in the official format, in place of the real."""
    make = {"mnist": official_files.mnist_content, "cifar10": official_files.cifar10_content}[request.param]
    content = make(np.random.default_rng(0))
    files = tuple(sources.File(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in content.items())
    source = replace(sources.SOURCES[request.param], files=files)
    monkeypatch.setitem(sources.SOURCES, request.param, source)
    return request.param, source, content
