"""The package as others use it: lazy imports, the commands, experiments of a user's own, and runs from Python."""

import json
import pathlib
import re
import subprocess
import sys
import textwrap
import threading

import jax.numpy as jnp
import numpy as np
import pytest

import poisonjax as pj
from poisonjax.cli import COMMANDS, main
from poisonjax.runs import experiments
from poisonjax.runs.trained import load_experiment, load_trained
from poisonjax.types import to_unit

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = {"flax", "jax", "matplotlib", "numpy", "optax", "orbax", "scipy", "sklearn", "tensorboardX"}


def imported_by(statement):
    """The heavy packages that a new process has after the statement."""
    script = f"{statement}\nimport sys\nprint()\nprint(*{HEAVY} & sys.modules.keys())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(ended.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import poisonjax", set()),
        ("import poisonjax; dir(poisonjax); poisonjax.__version__", set()),
        ("from poisonjax.cli import main; main(['run', '--list'])", set()),
        ("from poisonjax.cli import main; main(['evaluate', '--victim=x'])", set()),
        ("from poisonjax.attacks import PGD", {"jax", "numpy", "optax", "scipy"}),
    ],
)
def test_imports_are_lazy(statement, allowed):
    assert imported_by(statement) <= allowed


def test_every_public_name_is_listed_and_resolves():
    assert dir(pj) == sorted(pj.__all__)
    assert {"Experiment", "Arm", "Data", "Evaluation", "Victim", "run", "load_victim", "evaluate"} <= set(dir(pj))
    assert all(getattr(pj, name) is not None for name in dir(pj))
    with pytest.raises(AttributeError, match="module 'poisonjax' has no attribute 'nothing'"):
        pj.nothing  # noqa: B018


def test_the_version_is_that_of_the_changelog_and_the_citation():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE).group(1)
    assert pj.__version__ == newest == cited


COMMAND_LINES = {  # words: exit status, and a part of the only line on standard error
    "no command": ([], 2, "usage: poisonjax COMMAND"),
    "unknown command": (["train"], 2, "poisonjax: unknown command 'train'; "),
    "misspelt command": (["evalute"], 2, "poisonjax: unknown command 'evalute'; did you mean evaluate?"),
    "misspelt flag": (["run", "--experiments=x"], 2, "poisonjax run: unknown flag '--experiments'; did you mean --exp"),
    "flag without a value": (["run", "--experiment"], 2, "poisonjax run: a value is missing after --experiment"),
    "abbreviated flag": (["run", "--exp=mnist_badnets"], 2, "unknown flag '--exp'"),
    "required flags": (["evaluate"], 2, "poisonjax evaluate: --victim, --arm, --attack are required"),
    "no data command": (["data"], 2, "usage: poisonjax data COMMAND"),
    "unknown data set": (["data", "prepare", "mnist5k"], 2, "unknown data set 'mnist5k'; did you mean mnist_5k?"),
    "no records": (["report", "site"], 2, "poisonjax report: --records, --out are required"),
    "no folder": (["report", "site", "--records=/no/such", "--out=/tmp/x"], 2, "poisonjax report: "),
}


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_bad_command_lines_are_one_line_and_status_two(case, capsys):
    words, status, message = COMMAND_LINES[case]
    assert main(words, "poisonjax") == status
    said, complaint = capsys.readouterr()
    assert message in complaint and not said
    assert message.startswith("usage") or complaint.count("\n") == 1


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_every_command_has_help(words, capsys):
    try:
        assert main(words, "poisonjax") == 0
    except SystemExit as stop:
        assert stop.code == 0
    assert capsys.readouterr().out.startswith("usage: poisonjax")


def test_the_package_runs_as_a_module():
    ended = subprocess.run([sys.executable, "-m", "poisonjax"], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2 and ended.stderr.startswith("usage: python -m poisonjax COMMAND")


# Experiments from anywhere.

OWN = '''
"""A trigger, a network and a defence of the user's own. (none)"""
import dataclasses
import flax.linen as nn
import jax.numpy as jnp
import poisonjax as pj
from own_trigger import Stripes
from poisonjax.attacks import PGD, Linf
from poisonjax.data.subsets import Stratified
from poisonjax.models.network import Network
from poisonjax.poisons import BadNets
from poisonjax.training import Adam, Training

class MLP(Network):
    width: int = 8
    classes: int = 10
    @nn.compact
    def __call__(self, x, train=False, keys=None):
        h = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(h), h

@dataclasses.dataclass(frozen=True)
class RejectBright(pj.defences.Defence):
    limit: float = 0.2
    def shield(self, victim, context):
        return pj.defences.Shield(suspicion=lambda x: x.mean((1, 2, 3)), threshold=self.limit)

def experiment(scale):
    pgd = PGD(Linf(0.1), step=0.05, steps=2)
    return pj.Experiment(
        name="own_experiment", title="Mine.", paper_table="", data=pj.Data("mnist_5k", Stratified(200), Stratified(50)),
        model=MLP(), poison=BadNets(rate=0.2, target=0, trigger=Stripes()),
        train=Training(batch=50, epochs=2, optimizer=Adam(0.01)), evaluation=pj.Evaluation(pgd, batch=50),
        arms=(pj.Arm("standard"), pj.Arm("rejecting", defence=RejectBright())),
    )
'''.lstrip()
TRIGGER = '''
"""A module beside the experiment."""
import dataclasses
import jax.numpy as jnp
from poisonjax.poisons.triggers import Trigger

@dataclasses.dataclass(frozen=True)
class Stripes(Trigger):
    amplitude: float = 0.3
    def __call__(self, image):
        return jnp.clip(image + self.amplitude * (jnp.arange(image.shape[2]) % 2)[None, None, :, None], 0, 1)
'''.lstrip()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The file of an experiment with types of its own, in a folder that is not on sys.path."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_experiment.py").write_text(OWN)
    (folder / "own_trigger.py").write_text(TRIGGER)
    return folder / "own_experiment.py"


@pytest.mark.parametrize("given", ["mnist_badnets", "MNIST_BadNets", "mnist_badnets.py"])
def test_names_of_experiments_are_forgiving(given):
    assert experiments.build(given, "smoke").name == "mnist_badnets"


def test_an_experiment_of_the_package_may_be_given_as_a_file():
    file = str(experiments.folder() / "mnist_badnets.py")
    assert experiments.load(file) is experiments.load("mnist_badnets")


def test_a_file_is_a_module_of_its_stem_and_loaded_once(own):
    module = experiments.load(str(own))
    assert module.__name__ == "own_experiment" and sys.modules["own_experiment"] is module
    assert experiments.load(str(own)) is module is experiments.load("own_experiment")
    assert experiments.build("own_experiment", "small").model.width == 8


BROKEN = {
    "syntax": ("x = 1\ndef experiment(scale:\n    pass", "FILE:2: '(' was never closed"),
    "import": ("import dataclasses\nimport no_such_module", "FILE:2: ModuleNotFoundError: No module named 'no_such_mo"),
    "error while loading": ("\n\nrate = 1 / 0", "FILE:3: ZeroDivisionError: division by zero"),
    "no function": ("x = 1", "FILE has no function experiment(scale); it must return a poisonjax.Experiment"),
    "no experiment": ("def experiment(scale):\n    pass", "FILE:1: experiment('smoke') must return a poisonjax.Exper"),
    "no scale": ("def experiment():\n    pass", "FILE:1: TypeError: experiment() takes 0 positional arguments but 1"),
    "exit while loading": ("import sys\nsys.exit(3)", "FILE:2: SystemExit: 3"),
    "error while building": ("def experiment(scale):\n    return scale.rate", "FILE:2: AttributeError: 'str' object"),
    "bad settings": (
        "from poisonjax.poisons import BadNets\n\ndef experiment(scale):\n    return BadNets(rate=2.0, target=0)",
        "FILE:4: ValueError: rate must lie in (0, 1], got 2.0",
    ),
    "another name": (OWN, "FILE: name is 'own_experiment'; it must be that of the file, 'broken_"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_experiment_is_one_line_with_file_and_line_number(case, own, tmp_path, capsys):
    experiments.load(str(own))  # own_trigger can be imported from now on
    text, message = BROKEN[case]
    file = tmp_path / f"broken_{'_'.join(case.split())}.py"
    file.write_text(text)
    assert main(["run", f"--experiment={file}", "--scale=smoke", f"--workdir={tmp_path / 'w'}"], "poisonjax") == 2
    line = capsys.readouterr().err
    assert message.replace("FILE", str(file)) in line and line.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere/mine.py", "there is no file nowhere/mine.py"),
        ("FOLDER/json.py", "would hide the module json: rename the file"),
        ("FOLDER/my-experiment.py", "rename it to letters, digits and _"),
        ("no.such.module", "unknown experiment 'no.such.module'; allowed are "),
        ("json", "has no function experiment(scale)"),
    ],
)
def test_a_file_or_module_that_cannot_be_an_experiment_is_refused(given, message, tmp_path):
    for name in ("json.py", "my-experiment.py"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError) as caught:
        experiments.build(given.replace("FOLDER", str(tmp_path)), "smoke")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_claims_are_read_without_running_the_file_and_a_broken_one_says_where(tmp_path, monkeypatch):
    (tmp_path / "good.py").write_text('"""A claim.\n\nMore."""\nraise RuntimeError')
    (tmp_path / "bad.py").write_text("x = 1\ny = (")
    monkeypatch.setattr(experiments, "folder", lambda: tmp_path)
    assert experiments.names() == ["bad", "good"]
    assert experiments.claim("good") == "A claim." and experiments.claim("bad").startswith("(broken: line 2: ")


# Runs from Python.


@pytest.fixture(scope="module")
def done(own, data_dir, tmp_path_factory):
    """The workdir and the record of a run of the user's own experiment, from Python."""
    workdir = tmp_path_factory.mktemp("library") / "run"
    return workdir, pj.run(experiments.build(str(own), "small"), workdir, data_dir=data_dir)


def test_run_returns_the_record_that_it_leaves(done):
    workdir, record = done
    assert json.loads((workdir / "record.json").read_text()) == record
    assert record["experiment"] == "own_experiment" and list(record["arms"]) == ["standard", "rejecting"]
    assert record["scale"] == "custom" and (workdir / "report.md").exists()


def test_types_of_the_user_are_written_with_their_module(done):
    stored = json.loads((done[0] / "config.json").read_text())["config"]
    assert stored["model"]["type"] == "own_experiment:MLP"
    assert stored["poison"]["trigger"]["type"] == "own_trigger:Stripes"
    assert load_experiment(done[0]).arms[1].defence.limit == 0.2


def test_a_finished_run_is_returned_at_once_and_a_thread_may_ask(done, own, data_dir):
    workdir, record = done
    before = (workdir / "report.md").stat().st_mtime_ns
    again = []
    ask = lambda: again.append(pj.run(experiments.build(str(own), "small"), workdir, data_dir=data_dir))  # noqa: E731
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert again == [record] and (workdir / "report.md").stat().st_mtime_ns == before


@pytest.mark.parametrize("arm", ["standard", "rejecting"])
def test_a_loaded_network_is_the_one_that_was_judged(arm, done, data_dir):
    workdir, record = done
    curves = sorted((workdir / "tensorboard").rglob("*"))
    trained = load_trained(workdir, arm, data_dir=data_dir)
    x, labels = to_unit(jnp.asarray(trained.dataset.test.image)), trained.dataset.test.label
    victim = pj.load_victim(workdir, arm, data_dir=data_dir)
    classes = np.asarray(victim.classify(x, victim.logits(x)))
    assert np.sum(classes == labels) == record["arms"][arm]["clean_accuracy"]["numerator"][0]
    assert (victim.suspicion is None) == (arm == "standard")
    assert sorted((workdir / "tensorboard").rglob("*")) == curves  # the run is left as it is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "pgd_at"}, "unknown arm 'pgd_at'; the run has standard, rejecting"),
        ({"seed": 1}, "unknown seed 1; the run has 0"),
        ({"workdir": "/no/such/run"}, "/no/such/run is not the workdir of a run"),
        ({"experiment": "no_such_file.py"}, "unknown experiment 'no_such_file'"),
    ],
)
def test_a_network_that_is_not_there_is_refused(change, message, done, data_dir):
    asked = {"workdir": done[0], "arm": "standard", "data_dir": data_dir} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        pj.load_victim(**asked)


def test_a_defence_whose_run_has_not_finished_is_refused(done, data_dir):
    result = done[0] / "seed0" / "rejecting" / "result.json"
    content = result.read_bytes()
    result.unlink()
    try:
        with pytest.raises(ValueError, match="arm rejecting, seed 0: training has not finished"):
            pj.load_victim(done[0], "rejecting", data_dir=data_dir)
    finally:
        result.write_bytes(content)


def test_a_new_process_learns_the_types_from_the_experiment_that_is_named(done, own, data_dir):
    script = f"""
        import sys
        import poisonjax as pj
        try:
            pj.load_victim({str(done[0])!r}, "standard", data_dir={data_dir!r})
        except ValueError as error:
            print(error)
        assert "own_experiment" not in sys.modules
        victim = pj.load_victim({str(done[0])!r}, "standard", experiment={str(own)!r}, data_dir={data_dir!r})
        print(type(victim).__name__)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    refusal, loaded = ended.stdout.splitlines()
    assert "own_experiment:MLP" in refusal and loaded == "Victim"


@pytest.mark.parametrize(("setting", "value"), [("seeds", 0), ("save_every", -1.0)])
def test_impossible_settings_of_a_run_are_refused(setting, value, own, tmp_path):
    with pytest.raises(ValueError, match=f"{setting} must be at least"):
        pj.run(experiments.build(str(own), "small"), tmp_path, **{setting: value})


def test_every_configuration_is_read_by_a_new_process(tmp_path):
    """Types are looked up among those that are loaded; a reader loads all of poisonjax's own."""
    from poisonjax.overrides import to_json

    plans = [to_json(experiments.build(name, "smoke")) for name in experiments.names()]
    for at, plan in enumerate(plans):
        (tmp_path / f"{at}").mkdir()
        stored = {"format": 1, "config": {"scale": "smoke", **plan}}
        (tmp_path / f"{at}" / "config.json").write_text(json.dumps(stored))
    script = f"""
        from poisonjax.runs.trained import load_experiment
        print(*[load_experiment(f"{tmp_path}/{{at}}").name for at in range({len(plans)})])
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.split() == experiments.names(), ended.stderr
