"""Fixtures of all tests: compiled programs, and real images without a network."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

# Programs compile once for all tests and for all processes that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"poisonjax-tests-{os.getuid()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLCONFIGDIR", os.environ["JAX_COMPILATION_CACHE_DIR"])
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # most tests compile much longer than they compute
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="poisonjax-")  # networks of other versions are not for tests
sys.path.insert(0, str(Path(__file__).parents[1]))

# Folders whose tests compute longer than they compile.
OPTIMIZED = ("attacks",)

# The slowest files, to be handed out first, so that no process ends with a long one while the other is idle.
SLOWEST = ("test_launch", "test_interruption", "test_autoattack", "test_devices", "test_processes", "test_extending")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first; the others stay in their order."""
    rank = {name: at for at, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """A data_dir with mnist_5k prepared: real images without a network."""
    from poisonjax.data import prepare

    folder = tmp_path_factory.mktemp("tfds")
    prepare.prepared("mnist_5k", str(folder))
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def optimized_where_it_pays(request):
    """Let XLA optimise the programs of OPTIMIZED folders only."""
    import jax

    chosen = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] not in ("0", "false")
    jax.config.update("jax_disable_most_optimizations", chosen and request.path.parent.name not in OPTIMIZED)
    yield
    jax.config.update("jax_disable_most_optimizations", chosen)


@pytest.fixture(scope="module", autouse=True)
def dropped_programs():
    """Drop compiled programs after each file: each has memory maps, of which Linux allows a process 65,530."""
    yield
    from poisonjax.runtime import distributed

    distributed.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def forgotten_modules(tmp_path_factory):
    """Forget after each file the modules that it wrote, since types of a loaded module may be set by all tests."""
    yield
    written = tmp_path_factory.getbasetemp()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if file and Path(file).is_relative_to(written):
            del sys.modules[name]
