"""One attack on a trained network of a run, stage by stage and resumable."""

import contextlib
import functools
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from poisonjax.attacks import Attack
from poisonjax.data import Dataset
from poisonjax.evaluation import metrics, robustness
from poisonjax.evaluation.attack_run import Stage
from poisonjax.evaluation.victim import Victim
from poisonjax.keys import stream_key
from poisonjax.overrides import to_json
from poisonjax.reports.attack import markdown
from poisonjax.reports.console import Bar, say
from poisonjax.reports.record import environment
from poisonjax.runs.trained import Trained
from poisonjax.runtime import bucket, distributed
from poisonjax.runtime.workdir import cached_json, load_arrays, save_arrays, write_atomic
from poisonjax.types import Examples, take

FORMAT = 2  # of evaluation.json


def first(dataset: Dataset, attack: Attack, images: int | None = None) -> Examples:
    """The first test images; all of them, but at most 1,000, for None.

    ValueError if there are fewer, or if the ball of the attack is larger than images are.
    """
    there, shape = len(dataset.test.label), dataset.test.image.shape[1:]
    if images is not None and images > there:
        raise ValueError(f"images must be at most the {there} of the test split, got {images}")
    ball = attack.ball
    if ball is not None and ball.eps > (largest := ball.max_radius(shape)):
        raise ValueError(f"eps must be at most {largest:g} for images of shape {shape} in [0, 1], got {ball.eps:g}")
    return take(dataset.test, slice(images or 1000))


def run(
    trained: Trained, attack: Attack, examples: Examples, out: str | os.PathLike, batch: int = 100, command: str = ""
) -> dict:
    """Attack the network on images [n], or resume; write evaluation.json and report.md to `out`; return the record.

    batch: images at a time. command: recorded. ValueError for a network that cannot be judged, WorkdirError for an
    `out` that cannot be used.
    """
    network = distributed.replicate(trained.victim)
    outputs = robustness.checked_outputs(network, examples, attack, batch)
    about = {"arm": trained.arm.name, "seed": trained.seed, "attack": to_json(attack), "images": len(examples.label)}
    identity = about | {"dataset": trained.dataset.sha256, "run": trained.config}
    key = stream_key(trained.seed, "evaluation")
    with bucket.claimed(out, identity, warn=say) as folder:

        def measured() -> dict:
            names = [name for name, _ in attack.stages]
            keep = functools.partial(_kept, folder, names)
            follow = functools.partial(_bar, names, type(attack).__name__)
            result = robustness.measured(network, examples, attack, key, batch, outputs, keep, follow)
            return result.to_json() | {"attack_success_rate": _triggered(trained, network, examples, batch)}

        done = (folder / "result.json").exists()
        found = cached_json(folder / "result.json", measured, warn=say)
        if done:
            say(f"{out}: already done")
        record = {"format": FORMAT, "command": command, **about, "dataset": _described(trained.dataset), **found}
        record = record | {"run": trained.config, "environment": environment()}
        write_atomic(folder / "report.md", markdown(record))
        write_atomic(folder / "evaluation.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record


def _triggered(trained: Trained, network: Victim, examples: Examples, batch: int) -> list[int] | None:
    """[successes, victim images] of the trigger that the run was poisoned with; None without a poison."""
    poison, classes = trained.experiment.poison, trained.dataset.classes
    if not trained.experiment.poisoned:
        return None
    key = distributed.replicate(stream_key(trained.seed, "evaluation"))
    predictions = metrics.predict(network, examples, poison, None, key, batch)
    targets = np.asarray(poison.target_labels(jnp.asarray(examples.label)))
    success = metrics.measure(examples.label, targets, predictions, classes)["attack_success_rate"]
    return [success.numerator, success.denominator] if success.denominator else None


def _kept(folder: pathlib.Path, names: list[str], name: str, make: Callable[[], Stage]) -> Stage:
    """A stage of an attack, made only if the folder does not have it."""
    path = folder / f"{name}.npz"
    found = _recalled(path)
    say(f"stage {names.index(name) + 1} of {len(names)}: {name}{', already done' if found is not None else ''}")
    if found is None:
        found = make()
        save_arrays(path, found)
    return found


def _recalled(path: pathlib.Path) -> Stage | None:
    try:
        return load_arrays(path, Stage) if path.exists() else None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        say(f"{path} is damaged ({type(error).__name__}): made again")
        return None


@contextlib.contextmanager
def _bar(names: list[str], attack: str, stage: str, images: int) -> Iterator[Callable[[int], None]]:
    with Bar(f"stage {names.index(stage) + 1}/{len(names)} {stage}" if stage else attack, keep=True) as bar:
        bar.begin(images, 0)
        yield bar.advance


def _described(dataset: Dataset) -> dict:
    return {"name": dataset.name, "version": dataset.version, "sha256": dataset.sha256}
