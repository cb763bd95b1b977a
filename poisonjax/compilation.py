"""Where compiled programs are kept from one start to the next."""

import os
import pathlib

import jax


def keep_programs(folder: str | None) -> None:
    """In `folder`, nowhere if that is "none"; if None, where jax's own setting says, or in the user's cache."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "poisonjax"
    chosen = folder or jax.config.jax_compilation_cache_dir or str(default)
    jax.config.update("jax_compilation_cache_dir", None if chosen == "none" else chosen)
