"""An experiment from data to report; reads like the method section of a paper."""

import contextlib
import dataclasses
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from poisonjax import data
from poisonjax.data import Dataset, sources
from poisonjax.evaluation import activations, adversarial_example, attack_run, attack_suite, masking, metrics
from poisonjax.evaluation.activations import Collected
from poisonjax.evaluation.adversarial_example import Shown
from poisonjax.evaluation.attack_suite import NamedAttack
from poisonjax.evaluation.victim import Network
from poisonjax.experiment import Arm, Experiment, Model
from poisonjax.overrides import to_json
from poisonjax.poisons import CleanLabel, Crafted, poisoned
from poisonjax.reports import figures, record, table, tsne
from poisonjax.reports.console import Bar, TrainingBar, say
from poisonjax.runtime import distributed
from poisonjax.runtime.checkpoint import Checkpoints
from poisonjax.runtime.workdir import cached_json, load_arrays, save_arrays, write_atomic
from poisonjax.training import Fitted, Interrupted, Madry, Standard, Training, TrainState, eval_logits, fit
from poisonjax.training.objectives import Objective
from poisonjax.training.prefetch import HostData
from poisonjax.training.step import row_keys
from poisonjax.types import Array, Examples, take, to_unit


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of an experiment: what, on which data, where, and who may stop it.

    changed: the overrides in force. home: what its user calls the workdir. save_every: seconds between checkpoints.
    reader: row numbers [b] of the training split -> Examples [b], for data that are to stay on the host; None puts
    them all on the devices. advanced: is called whenever training has.
    """

    experiment: Experiment
    dataset: Dataset
    workdir: pathlib.Path
    scale: str
    changed: tuple[str, ...] = ()
    home: str = ""
    seeds: int = 1
    save_every: float = 30.0
    stop_requested: Callable[[], bool] = lambda: False
    reader: Callable[[np.ndarray], Examples] | None = None
    advanced: Callable[[], None] = lambda: None


def identity(experiment: Experiment, scale: str) -> dict:
    """What the workdir of a run stays with for ever; seeds may be added."""
    return {"scale": scale, **to_json(experiment)}


class Poisoned(NamedTuple):
    """The training data of the arms. rows: the `index` of those that the attacker changed. facts: for the record."""

    train: Examples | HostData
    rows: np.ndarray
    facts: dict


def load(experiment: Experiment, data_dir: str | None) -> Dataset:
    """The rows of the data set that the experiment uses. ValueError if the two do not fit."""
    whole = data.load(experiment.data.name, data_dir)
    used = dataclasses.replace(whole, train=experiment.data.train(whole.train), test=experiment.data.test(whole.test))
    experiment.check(used.classes, used.train.image.shape[1:], len(used.train.label))
    experiment.poison.select(jnp.asarray(used.train.label), stream(0, "poison"))  # raises if rows are too few
    if experiment.activations is not None:
        experiment.activations.check(used.test.label)
    return used


def run(job: Run) -> dict:
    """Poisons, trains and judges, seed by seed; writes figures, report.md and record.json; the record."""
    warnings = job.experiment.warnings()
    for line in warnings:
        say(f"warning: {line}")
    seeds = range(job.seeds)
    attacks, judged = zip(*distributed.map_over_devices(lambda seed: one_seed(job, seed), seeds), strict=True)
    results = {arm.name: [of[arm.name] for of in judged] for arm in job.experiment.arms}
    made = record.build(
        job.experiment,
        job.dataset,
        job.scale,
        list(job.changed),
        list(seeds),
        results,
        [attack.facts for attack in attacks],
        warnings,
    )
    write(job, made, attacks[0])
    return made


def one_seed(job: Run, seed: int) -> tuple[Poisoned, dict[str, dict]]:
    """What the attacker makes of the training data, and every arm's result on it."""
    attack = poison_data(job, seed)
    return attack, {arm.name: train_and_judge(job, seed, arm, attack) for arm in job.experiment.arms}


def stream(seed: int, name: str) -> Array:
    """The key of one source of randomness: poison, network, order of the data and evaluation share none."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def poison_data(job: Run, seed: int) -> Poisoned:
    """What the attacker makes of the training data."""
    poison, clean = job.experiment.poison, job.dataset.train
    chosen = np.asarray(poison.select(jnp.asarray(clean.label), stream(seed, "poison")))
    facts = {"rows": int(chosen.sum()), "of": len(chosen)}
    if isinstance(poison, CleanLabel):
        apply, facts["surrogate"] = craft(job, seed, take(clean, chosen))
    else:
        apply = poison.apply
    rows = clean.index[chosen]
    return Poisoned(_training_data(job, lambda examples: poisoned(apply, examples, rows)), rows, facts)


def _training_data(job: Run, change: Callable[[Examples], Examples] = lambda examples: examples) -> Examples | HostData:
    """The training rows, changed row by row: all of them, or as they are read."""
    if job.reader is None:
        return jax.tree.map(np.asarray, change(job.dataset.train))
    index = job.dataset.train.index
    return HostData(index, lambda at: jax.tree.map(np.asarray, change(job.reader(index[at]))))


def craft(job: Run, seed: int, rows: Examples) -> tuple[Callable[[Examples], Examples], dict]:
    """Hard versions of the rows against the attacker's own robust network, and how robust it is; done once."""
    store = _store(job, seed, "crafted")
    found = store.latest(rows)
    if found is None:
        made, facts = _attack_own_network(job, seed, rows)
        store.save(0, made, facts)
    else:
        _, made, facts = found
    return Crafted(job.experiment.poison, made).apply, facts


def _attack_own_network(job: Run, seed: int, rows: Examples) -> tuple[Examples, dict]:
    plan = job.experiment
    objective = Madry(plan.surrogate.attack, plan.surrogate.warmup)
    fitted = train(job, seed, "surrogate", plan.model, objective, plan.surrogate, _training_data(job))
    state = distributed.replicate(fitted.state)
    with _progress(job, f"seed {seed} poison", len(rows.label)) as advance:
        key = distributed.replicate(stream(seed, "craft"))
        made = _crafter(plan.model, plan.poison)(rows, plan.evaluation.batch, state, key, advance=advance)
    counts, _ = judge(job, seed, "surrogate", plan.model, state)
    return made, {name: counts[name].value for name in ("clean_accuracy", "robust_accuracy")}


@distributed.cached
def _crafter(model, poison: CleanLabel) -> Callable:
    def perturb(examples: Examples, state: TrainState, key: Array) -> Examples:
        return poison.perturb(eval_logits(model, state), examples, row_keys(key, examples.index, 0))

    return distributed.over_rows(perturb)


def train_and_judge(job: Run, seed: int, arm: Arm, attack: Poisoned) -> dict:
    """One arm of one seed, as the record needs it; done once, then cached_json."""

    def result() -> dict:
        plan, model = job.experiment, job.experiment.model_of(arm)
        settings = plan.training_of(arm)
        objective = Madry(settings.attack, settings.warmup) if arm.adversarial else Standard()
        examples = attack.train if arm.poisoned else _training_data(job)
        fitted = train(job, seed, arm.name, model, objective, settings, examples)
        state = distributed.replicate(fitted.state)
        counts, audit = judge(job, seed, arm.name, model, state)
        return {
            "activations": look(job, seed, arm, model, state),
            **try_attacks(job, seed, arm, model, state),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(fitted.state.params)),
            "counts": {name: [count.hits.tolist(), count.of.tolist()] for name, count in counts.items()},
            "audit": audit,
            "history": fitted.history,
            "images": fitted.images,
            "seconds": fitted.seconds,
        }

    folder = _folder(job, seed, arm.name)
    folder.mkdir(parents=True, exist_ok=True)
    return cached_json(folder / "result.json", result, warn=say, share=distributed.from_primary)


def look(job: Run, seed: int, arm: Arm, model: Model, state: TrainState) -> dict | None:
    """Keeps what the figures of one arm show; how its activations differ, if the experiment asks."""
    plan, folder, test = job.experiment, _folder(job, seed, arm.name), job.dataset.test
    if plan.example is not None:
        key = distributed.replicate(stream(seed, "evaluation"))
        shown = adversarial_example.collect(model, state, test, plan.evaluation.attack, key, plan.example)
        save_arrays(folder / "example.npz", shown)
    if plan.activations is None:
        return None
    found = _activations(job, model, state)
    save_arrays(folder / "activations.npz", found)
    return activations.measure(found, plan.activations, seed)


def try_attacks(job: Run, seed: int, arm: Arm, model: Model, state: TrainState) -> dict:
    """attacks: what each attack of the experiment's suite does to a network, each once; None without a suite.

    attacks_audit: signs that the network hides its gradient from them.
    """
    tried = job.experiment.suite
    if tried is None:
        return {"attacks": None, "attacks_audit": []}
    victim = Network(model)
    folder, examples = _folder(job, seed, arm.name), take(job.dataset.test, slice(tried.images))
    clean, key = np.asarray(to_unit(jnp.asarray(examples.image))), distributed.replicate(stream(seed, "evaluation"))

    def one(trial: NamedAttack) -> dict:
        name = f"seed {seed} {arm.name} {trial.name}"
        say(name)

        def follow(stage: str, images: int):
            return _progress(job, f"{name} {stage}".rstrip(), images)

        made = attack_run.attempt(victim, state, examples, trial.attack, key, tried.batch, follow=follow)
        shown = attack_suite.Pictures(made.adversarial[: tried.shown], made.after[: tried.shown])
        save_arrays(folder / f"{trial.name}.npz", shown)
        return attack_run.measure(clean, examples.label, made, trial.attack)

    def once(trial: NamedAttack) -> dict:
        return cached_json(folder / f"{trial.name}.json", lambda: one(trial), say, distributed.from_primary)

    made = {trial.name: once(trial) for trial in tried.trials}
    seen = attack_run.inspect(victim, state, examples, [trial.attack for trial in tried.trials], tried.batch)
    found = [each for trial in tried.trials for each in masking.outcomes(trial.name, trial.attack, made[trial.name])]
    lines = masking.masking(found, seen)
    for line in lines:
        say(f"warning: seed {seed} {arm.name} {line}")
    return {"attacks": made, "attacks_audit": lines}


def _activations(job: Run, model: Model, state: TrainState) -> Collected:
    plan = job.experiment
    return activations.collect(model, state, job.dataset.test, plan.poison, plan.activations, plan.evaluation.batch)


def train(
    job: Run,
    seed: int,
    name: str,
    model: Model,
    objective: Objective,
    settings: Training,
    examples: Examples | HostData,
) -> Fitted:
    """One network. Arms share the initial network and the order of the data, the surrogate has its own."""
    own = "proxy " if name == "surrogate" else ""
    keys = stream(seed, f"{own}network"), stream(seed, f"{own}order")
    folder = job.workdir / "tensorboard" / name / str(seed)
    with TrainingBar(f"seed {seed} {name}", folder, job.stop_requested, job.advanced) as bar:
        return fit(
            model,
            objective,
            settings,
            examples,
            keys,
            _store(job, seed, name),
            bar,
            lambda state: probe(job, seed, model, state),
            job.save_every,
        )


def probe(job: Run, seed: int, model: Model, state: TrainState) -> dict:
    """Clean accuracy, attack success rate and how activations differ, for the curves."""
    plan = job.experiment
    said = _predict(job, seed, model, state, None, lambda rows: None)
    counts = metrics.measure(*_wanted(job), said, job.dataset.classes)
    row = {name: counts[name].value for name in ("clean_accuracy", "attack_success_rate") if counts[name].denominator}
    if plan.activations is None:
        return row
    found = _activations(job, model, state)
    return row | {name: of["mean"] for name, of in activations.measure(found, plan.activations, seed).items()}


def judge(
    job: Run, seed: int, name: str, model: Model, state: TrainState
) -> tuple[dict[str, metrics.Count], list[str]]:
    """Every metric of a network, and what is wrong with it."""
    with _progress(job, f"seed {seed} {name} test", len(job.dataset.test.label)) as advance:
        said = _predict(job, seed, model, state, job.experiment.evaluation.attack, advance)
    found = metrics.audit(job.dataset.test.label, said, job.dataset.classes)
    for line in found:
        say(f"warning: seed {seed} {name} {line}")
    return metrics.measure(*_wanted(job), said, job.dataset.classes), found


def _predict(job: Run, seed: int, model: Model, state: TrainState, attack, advance) -> metrics.Predictions:
    plan, key = job.experiment, distributed.replicate(stream(seed, "evaluation"))
    return metrics.predict(model, state, job.dataset.test, plan.poison, attack, key, plan.evaluation.batch, advance)


def _wanted(job: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the test images, and the class that the attacker wants for each."""
    labels = job.dataset.test.label
    return labels, np.asarray(job.experiment.poison.target_labels(jnp.asarray(labels)))


@contextlib.contextmanager
def _progress(job: Run, name: str, images: int) -> Iterator[Callable[[int], None]]:
    """A bar for what is not saved half-way; to be told of images done, raises Interrupted on request."""
    with Bar(name) as bar:
        bar.begin(images, 0)

        def advance(rows: int) -> None:
            bar.advance(rows)
            if distributed.all_max(job.stop_requested())[0]:
                raise Interrupted(f"stopped within {name}, which starts again")

        yield advance


def _folder(job: Run, seed: int, name: str) -> pathlib.Path:
    return job.workdir / f"seed{seed}" / name


def _store(job: Run, seed: int, name: str) -> Checkpoints:
    folder, write = _folder(job, seed, name) / "checkpoints", distributed.is_primary()
    return Checkpoints(folder, warn=say, primary=write, share=distributed.from_primary)


def write(job: Run, made: dict, attack: Poisoned) -> None:
    """Figures, report.md and, last of all, record.json."""
    names = figures.draw(made, pictures(job, attack), job.workdir / "figures")
    write_atomic(job.workdir / "report.md", table.markdown(made, [f"figures/{name}" for name in names]))
    write_atomic(job.workdir / "record.json", json.dumps(made, indent=1, allow_nan=False) + "\n")


def pictures(job: Run, attack: Poisoned) -> dict[str, Figure]:
    """The figures of this experiment that do not follow from its record, by name; of the first seed."""
    plan, made = job.experiment, {}
    if plan.poisoned:
        made["images"] = figures.image_grid(*pictured(job, attack), f"{plan.name}: what the attacker does")
    if plan.activations is not None:
        kept = {arm.name: load_arrays(_folder(job, 0, arm.name) / "activations.npz", Collected) for arm in plan.arms}
        made["tsne"] = tsne.figure(kept, plan.activations, f"{plan.name}: activations before the last layer")
    if plan.example is not None:
        shown = {arm.name: load_arrays(_folder(job, 0, arm.name) / "example.npz", Shown) for arm in plan.arms}
        names = sources.find(plan.data.name).label_names
        made["example"] = figures.adversarial_example(shown, plan.example.magnify, names, plan.name)
    if plan.suite is not None:
        made |= {f"attacks_{arm.name}": _under_attack(job, arm) for arm in plan.arms}
    return made


def _under_attack(job: Run, arm: Arm) -> Figure:
    """Some test images, a row each, beside what every attack makes of them against one network."""
    tried = job.experiment.suite
    few = take(job.dataset.test, slice(tried.shown))
    columns = {"clean": np.asarray(to_unit(jnp.asarray(few.image)))}
    for trial in tried.trials:
        columns[trial.name] = load_arrays(
            _folder(job, 0, arm.name) / f"{trial.name}.npz", attack_suite.Pictures
        ).adversarial
    return figures.image_grid(columns, [f"is {label}" for label in few.label], f"{job.experiment.name}: {arm.name}")


def pictured(job: Run, attack: Poisoned, rows: int = 4) -> tuple[dict[str, np.ndarray], list[str]]:
    """Some poisoned training images beside what they were, and test images with the trigger; a label a row."""
    at = np.flatnonzero(np.isin(job.dataset.train.index, attack.rows))[:rows]
    clean = take(job.dataset.train, at)
    changed = attack.train.read(at) if isinstance(attack.train, HostData) else take(attack.train, at)
    labels, wanted = _wanted(job)
    shown = to_unit(jnp.asarray(job.dataset.test.image[np.flatnonzero(labels != wanted)[:rows]]))
    before, after = to_unit(jnp.asarray(clean.image)), to_unit(jnp.asarray(changed.image))
    columns = {
        "training image": before,
        "perturbation": after - before,
        "poisoned": after,
        "test image, triggered": job.experiment.poison.apply_trigger(shown),
    }
    names = [f"{a} labelled {b}" for a, b in zip(clean.label, changed.label, strict=True)]
    return {name: np.asarray(images) for name, images in columns.items()}, names
