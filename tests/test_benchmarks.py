"""Benchmarks run, count and fit correctly; nothing here is timed."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from benchmarks import flops, growth, throughput, tpu_cost
from poisonjax.models import MadryCNN, ReportCNN, ResNet18, WongCNN
from poisonjax.training import initial_state
from poisonjax.types import Examples

ROOT = Path(__file__).parents[1]


def run(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "throughput.py", "--platform", "cpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_throughput_prints_a_table_and_writes_every_round(tmp_path):
    out = tmp_path / "out.json"
    ended = run("--works", "tiny", "--repeats", 2, "--seconds", 0.1, "--devices", 1, 2, "--json", out)
    assert ended.returncode == 0, ended.stderr
    work, written = throughput.works("cpu")["tiny"], json.loads(out.read_text())
    (entry,) = written["works"]
    assert [row["devices"] for row in entry["rows"]] == [1, 2]
    assert all(len(row["rates"]) == 2 and min(row["rates"]) > 0 for row in entry["rows"])
    assert throughput.table("tiny", work, entry["rows"]) in ended.stdout
    one = entry["rows"][0]
    (speed,) = tpu_cost.measured(write(tmp_path / "one.json", written, [one])).values()
    each = flops.forward_flops(work.model, work.shape) * 7
    assert speed == pytest.approx(np.median(one["rates"]) * each)


def write(path, written, rows):
    entry = written["works"][0] | {"rows": [*rows, rows[0] | {"who": "pytorch"}]}
    path.write_text(json.dumps(written | {"works": [entry]}))
    return path


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--works", "none"), "no work 'none' on cpu; allowed are tiny, madry, wong, report"),
        (("--platform", "gpu", "--devices", "2"), "--devices forces host devices, which only cpu has"),
        (("--platform", "tpu", "--peers"), "the peers run on cpu and gpu only"),
    ],
)
def test_invalid_flags_of_throughput_are_one_line_and_exit_status_2(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "PEERS", {"pytorch": ()})
    assert_refused(arguments, message, monkeypatch, capsys)


def test_missing_peer_is_one_line_and_exit_status_2(monkeypatch, capsys):
    monkeypatch.setattr(throughput, "PEERS", {"art": ("no_such_package",)})
    message = "--peers needs no_such_package: pip install -r requirements-bench.txt"
    assert_refused(("--platform", "cpu", "--peers"), message, monkeypatch, capsys)


def assert_refused(arguments, message, monkeypatch, capsys):
    short = ("--platform", "cpu", "--works", "tiny", "--repeats", "1", "--seconds", "0")
    monkeypatch.setattr(sys, "argv", ["throughput.py", *short, *arguments])
    with pytest.raises(SystemExit) as ended:
        throughput.main()
    assert ended.value.code == 2 and capsys.readouterr() == ("", f"throughput.py: {message}\n")


def test_ratios_compare_the_same_round():
    rows = [
        {"who": "poisonjax", "version": "v", "variant": "", "batch": 16, "rates": [100.0, 10.0, 30.0]},
        {"who": "pytorch", "version": "v", "variant": "eager", "batch": 8, "rates": [50.0, 5.0, 10.0]},
    ]
    ours, theirs = throughput.table("tiny", throughput.works("cpu")["tiny"], rows).splitlines()[4:]
    assert ours == "| poisonjax | v | 30 (10 to 100) | 2.00 (2.00 to 3.00) |"
    assert theirs == "| pytorch | v, eager, batch 8 | 10 (5 to 50) | 1.00 (1.00 to 1.00) |"


def test_fastest_variant_is_selected_and_failures_are_recorded(monkeypatch):
    monkeypatch.setattr(throughput.time, "perf_counter", iter(np.arange(0.0, 1e6, 2.0)).__next__)  # a turn takes 2 s

    class Of:
        def __init__(self, batch):
            self.batch = batch

        def run(self, steps):
            if not self.batch:
                raise OSError("no compiler")

    turns, tried = throughput.fastest((name, lambda size=size: Of(size)) for name, size in dict(a=4, b=8, c=0).items())
    assert turns.contestant.batch == 8 and tried == {"a": 2.0, "b": 4.0, "c": "OSError: no compiler"}


def test_ours_is_the_training_program_and_continues_across_epochs():
    ours = throughput.Ours(throughput.works("cpu")["tiny"])
    stops, compiled = [], ours.program
    ours.program = lambda *given: stops.append(int(given[-1])) or compiled(*given)
    ours.run(20), ours.run(30)
    assert stops == [16, 20, 32, 48, 50]  # epochs of 16 steps
    state, sums = throughput.distributed.fetch(ours.carry)
    assert int(state.step) == 50 and float(sums["count"]) == 2 * 16
    ours.program = compiled
    assert ours.megabytes() > ours.rest[0].image.nbytes / 2**20


PAIRS = {
    "madry": (MadryCNN(filters=(4, 8), hidden=16), (28, 28, 1)),
    "wong": (WongCNN(filters=(4, 8), hidden=16), (28, 28, 1)),
    "report": (ReportCNN(width=16), (28, 28, 1)),
    "resnet18": (ResNet18(filters=4), (32, 32, 3)),
}


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # several would wait for each other on a machine that is busy
    return torch


@pytest.mark.parametrize("model, shape", PAIRS.values(), ids=PAIRS)
def test_pytorch_gets_the_same_network(model, shape, torch):
    from benchmarks.peers.pytorch import network

    net = network(model, shape[-1]).eval()
    assert net(torch.zeros(2, shape[-1], *shape[:2])).shape == (2, 10)
    sizes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *shape), np.float32))["params"]
    mine = sorted(leaf.size for leaf in jax.tree.leaves(sizes))
    assert mine == sorted(parameter.numel() for parameter in net.parameters())


def test_pytorch_attacks_and_trains(torch):
    from benchmarks.peers import pytorch

    work = throughput.works("cpu")["tiny"]
    ways = dict(pytorch.variants(work, "cpu"))
    assert list(ways) == ["eager", "channels_last", "compiled", "compiled, channels_last"]
    one = ways["eager"]()
    x = one.image[:16].float() / 255
    moved = (one._attacked(x, one.label[:16]) - x).abs().max()
    assert 0.29 < moved <= 0.3 + 1e-6
    before = [parameter.clone() for parameter in one.net.parameters()]
    one.run(17)
    assert not any(torch.equal(old, new) for old, new in zip(before, one.net.parameters(), strict=True))


def test_twin_resnet_has_the_same_logits(torch):
    from benchmarks import autoattack_vs_authors as versus

    rng, model = np.random.default_rng(0), ResNet18(filters=2)
    image = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    state = initial_state(model, optax.sgd(0.1), image[0], jax.random.key(0))
    other = lambda leaf: leaf + rng.uniform(-0.2, 0.2, leaf.shape).astype(np.float32)  # noqa: E731
    state = state._replace(params=jax.tree.map(other, state.params), batch_stats=jax.tree.map(other, state.batch_stats))
    net, examples = versus.twin(model, state), Examples(image, np.zeros(4, np.int32), np.arange(4))
    versus.agree(net, model, state, examples)
    net[1].weight.data *= 1.2
    with pytest.raises(AssertionError):
        versus.agree(net, model, state, examples)


def test_art_trains_with_the_same_attack(torch):
    pytest.importorskip("art")
    from benchmarks.peers import art

    toolbox = dict(art.variants(throughput.works("cpu")["tiny"], "cpu"))["attack 32 at a time"]()
    before = [parameter.clone() for parameter in toolbox.net.parameters()]
    toolbox.run(2)
    assert not any(torch.equal(old, new) for old, new in zip(before, toolbox.net.parameters(), strict=True))
    attack = toolbox.trainer.attack
    assert (attack.eps, attack.eps_step, attack.max_iter, attack.num_random_init) == (0.3, 0.01, 2, 1)


def test_defences_of_both_drop_the_same_rows():
    """Spectral signatures; ART's scores are of rows that are not centred, so the features here are."""
    pytest.importorskip("art")
    from benchmarks import defences_vs_art as versus

    features, label = np.random.default_rng(0).normal(size=(400, 6)) * [9, 1, 1, 1, 1, 1], np.arange(400) % 10
    features -= np.stack([features[label == of].mean(0) for of in range(10)])[label]
    rows = Examples(np.zeros((400, 1), np.uint8), label, np.arange(400))
    ours, theirs = versus.detectors(features, rows)["spectral signatures"]
    np.testing.assert_array_equal(np.isin(np.arange(400), ours().examples.index), np.array(theirs()[1], bool))


def test_matrix_products_count_as_images_of_equal_flops(torch):
    from benchmarks.peers import matmul

    work = throughput.works("cpu")["tiny"]
    image = flops.training_flops(flops.forward_flops(work.model, work.shape), 2)
    ways = dict(matmul.variants(work, "cpu"))
    assert ways.keys() == {f"{who} {size}" for who in ("jax", "torch") for size in (1024, 2048, 4096)}
    for make in (matmul.with_jax, functools.partial(matmul.with_torch, "cpu")):
        product = matmul.Product(work, 64, make)
        product.run(2)
        assert product.batch * image == pytest.approx(matmul.COUNT * 2 * 64**3)


def test_affine_fits_a_line_and_measures_the_residual():
    assert growth.affine([1, 2, 4, 8], [5, 7, 11, 19]) == pytest.approx((2, 3, 0), abs=1e-9)
    slope, offset, worst = growth.affine([1, 2, 3], [1, 4, 9])
    relative = [abs(slope * x + offset - x * x) / (x * x) for x in (1, 2, 3)]
    assert worst == pytest.approx(max(relative)) and worst > growth.TOLERANCE


def test_growth_reports_linear_time_and_flat_memory():
    points = [growth.Point(size, None, 1) for size in (1, 2, 4)]
    report = growth.table("epochs", points, [2.0, 4.0, 8.0], {"program MB": [1.0, 1.05, 1.2]}, flat=True)
    assert "- time is linear within 10%: yes (0.0%)" in report
    assert "- program MB is flat within 10%: no (20.0%)" in report
    assert "flat" not in growth.table("images", points, [2.0, 4.0, 8.0], {"program MB": [1.0, 2.0, 4.0]}, flat=False)


def test_flops_and_parameters_match_the_published_networks():
    shape, mnist = (32, 32, 3), 28 * 28 * 25 * 32 + 14 * 14 * 25 * 32 * 64 + 3136 * 1024 + 1024 * 10
    assert flops.forward_flops(MadryCNN(), (28, 28, 1)) == pytest.approx(2 * mnist, rel=0.2)  # no edges; with relu
    assert tpu_cost.parameters(ResNet18(), shape) == 11_173_962
    assert flops.training_flops(10.0, 40) == 830.0


def test_cost_of_a_step_is_computing_and_a_ring():
    job = tpu_cost.Job("job", 1000, 100, parameters=1e6, forward=1e9, attack_steps=10, epochs=3, batch=64)
    assert job.steps == 48 and job.flops == 23e9
    alone, eight = (tpu_cost.cost(job, devices, flops=23e12, sends=7e9) for devices in (1, 8))
    assert (alone.computing, alone.sending, alone.efficiency) == pytest.approx((0.064, 0, 1))
    assert (eight.computing, eight.sent, eight.sending) == pytest.approx((0.008, 7e6, 0.001))
    assert eight.efficiency == pytest.approx(8 / 9) and eight.hours(job) == pytest.approx(48 * 0.009 / 3600)
    assert tpu_cost.table(job, 23e12, 7e9).splitlines()[3] == "| 8 | 8 | 7.0 | 1.00 | 8.00 | 89 | 0.00012 | 0.00096 |"
