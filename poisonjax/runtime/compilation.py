"""Compilation: XLA options and the persistent cache of compiled programs."""

import os
import pathlib
from collections.abc import Callable

import jax


def user_cache() -> pathlib.Path:
    """The folder of what may be computed again."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "poisonjax"


def enable_compilation_cache(folder: str | None) -> None:
    """Keep compiled programs in `folder`; None: where jax's setting says, or in the user's cache; "none": nowhere."""
    chosen = folder or jax.config.jax_compilation_cache_dir or str(user_cache())
    jax.config.update("jax_compilation_cache_dir", None if chosen == "none" else chosen)


def jit(fn: Callable, **options) -> Callable:
    """jax.jit, for a program on one device."""
    return jax.jit(fn, compiler_options=_compiler_options(), **options)


def _compiler_options() -> dict[str, str] | None:
    """XLA compiler options.

    On a CPU, XLA in jax 0.10 runs convolutions single-threaded when they go to YNNPACK; this keeps matrix products and
    reductions there, where they are fast, and convolutions out. Later versions use all threads for all of them.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or jax.__version_info__ >= (0, 11):
        return None
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
