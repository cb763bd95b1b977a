"""How programs are compiled, and where they are kept from one start to the next."""

import os
import pathlib
from collections.abc import Callable

import jax


def enable_compilation_cache(folder: str | None) -> None:
    """In `folder`, nowhere if that is "none"; if None, where jax's own setting says, or in the user's cache."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "poisonjax"
    chosen = folder or jax.config.jax_compilation_cache_dir or str(default)
    jax.config.update("jax_compilation_cache_dir", None if chosen == "none" else chosen)


def jit(fn: Callable, **options) -> Callable:
    """jax.jit, for a program on one device."""
    return jax.jit(fn, compiler_options=_told(), **options)


def _told() -> dict[str, str] | None:
    """What XLA is told.

    That of jax 0.10 runs convolutions on a CPU in one thread if it leaves them to YNNPACK, as it does with products
    and sums, which are fast there. Later ones use all threads for all of them.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or jax.__version_info__ >= (0, 11):
        return None
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
