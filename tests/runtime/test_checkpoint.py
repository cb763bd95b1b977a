"""A restored checkpoint is the one that was saved, bit for bit, or an earlier one with a warning."""

import contextlib
import itertools
import logging
import multiprocessing
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from poisonjax.runtime.checkpoint import CheckpointError, Checkpoints


class Moments(NamedTuple):
    count: jax.Array
    mean: dict


def state_of(step: int) -> dict:
    """A different state for every step; the kernel is too large for tensorstore's own checksums to cover it."""
    random_bits = np.random.default_rng(step)
    kernel = random_bits.standard_normal((37, 13), np.float32)
    kernel[0, :2] = np.frombuffer(b"\x01\x00\xc0\x7f\x00\x00\x00\x80", np.float32)  # NaN with a payload, -0.0
    return {
        "params": {"dense/0": {"kernel": kernel, "bias": jnp.arange(5, dtype=jnp.bfloat16) * step}},
        "batch_stats": {},
        "opt_state": (Moments(jnp.int32(step), {"w": random_bits.random(300)}), ()),
        "seed": np.array([step, 2**32 - 1], np.uint32),
        "frozen": np.array([True, False]),
        "step": np.int64(step),
        "empty": np.zeros((0, 3), np.float16),
        "fortran": np.asfortranarray(random_bits.integers(0, 255, (3, 4), np.uint8)),
    }


def meta_of(step: int) -> dict:
    return {"step": step, "loss": [0.1 * step, 1e-310, float("inf")], "history": {"accuracy": [1 / 3] * step}}


def bits(tree) -> list:
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    return [structure, *((leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in leaves)]


def assert_is_step(restored, step: int) -> None:
    assert restored is not None
    assert restored[0] == step
    assert bits(restored[1]) == bits(state_of(step))
    assert restored[2] == meta_of(step)


def refuse(line: str) -> None:
    pytest.fail(f"unexpected warning: {line}")


def saved(folder: Path, *steps: int, **options) -> Checkpoints:
    checkpoints = Checkpoints(folder, **{"warn": refuse, **options})
    for step in steps:
        checkpoints.save(step, state_of(step), meta_of(step))
    return checkpoints


def test_state_and_meta_are_restored_bit_for_bit_in_the_structure_of_like(tmp_path):
    saved(tmp_path / "new" / "folder", 3)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), state_of(0))
    restored = saved(tmp_path / "new" / "folder").latest(like)
    assert_is_step(restored, 3)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(restored[1]))


def test_new_folder_has_no_checkpoint_and_stays_empty(tmp_path):
    assert saved(tmp_path / "absent").latest(state_of(0)) is None
    assert list(tmp_path.iterdir()) == []


def test_newest_two_checkpoints_are_kept(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 9, 10)
    assert sorted(os.listdir(tmp_path)) == ["10", "9"]
    assert_is_step(checkpoints.latest(state_of(0)), 10)


def test_saving_the_newest_step_again_changes_nothing_and_an_earlier_step_is_refused(tmp_path):
    checkpoints = saved(tmp_path, 1, 2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    checkpoints.save(2, state_of(2), meta_of(2))
    with pytest.raises(ValueError, match="step 1 is before 2, the newest"):
        checkpoints.save(1, state_of(1), meta_of(1))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_keep_of_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"keep must be at least 2, .* got 1"):
        Checkpoints(tmp_path, keep=1)


def test_only_the_primary_process_writes(tmp_path):
    other = saved(tmp_path / "run", 1, primary=False)
    assert not (tmp_path / "run").exists()
    saved(tmp_path / "run", 1)
    assert_is_step(other.latest(state_of(0)), 1)


def test_meta_that_is_not_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        saved(tmp_path / "run").save(1, state_of(1), {"loss": jnp.float32(1)})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": np.int32(0)}, r"\['step'\] is int64\[\] there, int32\[\] here"),
        ({"frozen": np.zeros(3, bool)}, r"\['frozen'\] is bool\[2\] there, bool\[3\] here"),
        ({"ema": np.zeros(3)}, r"\['ema'\] is absent there, float64\[3\] here"),
        ({"seed": {}}, r"\['seed'\] is uint32\[2\] there, absent here"),
    ],
)
def test_intact_checkpoint_of_another_model_is_refused_and_kept(tmp_path, change, message):
    checkpoints = saved(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        checkpoints.latest({**state_of(0), **change})
    assert_is_step(checkpoints.latest(state_of(0)), 1)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def damages(folder: Path):
    """(name, how to do it) for every file of a folder: a byte flipped at several places, cut, emptied, gone."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content, name = file.read_bytes(), str(file.relative_to(folder))
        for at in {0, *(len(content) * part // 8 for part in range(1, 8)), len(content) - 1}:
            yield name, file, flipped(content, at)
        yield name, file, content[: len(content) // 2]
        yield name, file, b""
        yield name, file, None


def test_damage_to_any_file_restores_the_same_arrays_or_the_checkpoint_before_with_one_warning(tmp_path, caplog, capfd):
    warnings, refused = [], set()
    checkpoints = saved(tmp_path, 1, 2, warn=warnings.append)
    shutil.copytree(tmp_path / "2", tmp_path / "whole")
    for name, file, content in list(damages(tmp_path / "2")):
        file.unlink() if content is None else file.write_bytes(content)
        warnings.clear()
        restored = checkpoints.latest(state_of(0))
        assert_is_step(restored, 1 if warnings else 2)
        if warnings:
            (line,) = warnings
            assert line.startswith(f"checkpoint {tmp_path / '2'} is damaged (") and "\n" not in line
            assert line.endswith("the checkpoint of step 1 is used instead")
            assert not (tmp_path / "2").exists()
            refused.add(name)
        shutil.rmtree(tmp_path / "2", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "2")
    data = max(damages(tmp_path / "whole"), key=lambda damage: len(damage[2] or b""))[0]
    assert {"record/metadata", "state/_METADATA", "state/manifest.ocdbt", data} <= refused
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_flipped_bit_that_orbax_does_not_detect_is_detected(tmp_path):
    noise = np.random.default_rng(0).integers(0, 2**32, (64, 64), np.uint32)  # incompressible: stored as it is
    warnings = []
    checkpoints = Checkpoints(tmp_path, warn=warnings.append)
    for step in (1, 2):
        checkpoints.save(step, {"noise": noise + np.uint32(step)}, {})
    file = max((path for path in (tmp_path / "2").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(flipped(content, content.index((noise + np.uint32(2))[32].tobytes())))

    from_orbax = ocp.StandardCheckpointer().restore(tmp_path / "2" / "state")
    assert np.sum(from_orbax["['noise']"] != noise + np.uint32(2)) == 1  # wrong, and nothing was raised
    step, state, _ = checkpoints.latest({"noise": noise})
    assert step == 1
    assert np.array_equal(state["noise"], noise + np.uint32(1))
    assert warnings == [
        f"checkpoint {tmp_path / '2'} is damaged (ValueError: the array ['noise'] does not match its sha256);"
        " the checkpoint of step 1 is used instead"
    ]


def test_changed_meta_is_detected(tmp_path):
    warnings = []
    checkpoints = saved(tmp_path, 1, 2, warn=warnings.append)
    file = tmp_path / "2" / "record" / "metadata"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"[0.2,", b"[0.3,"))
    assert file.read_bytes() != content
    assert_is_step(checkpoints.latest(state_of(0)), 1)
    assert "(ValueError: its content does not match its sha256)" in warnings[0]


def test_damaged_checkpoint_is_renamed_and_its_step_can_be_saved_again(tmp_path):
    warnings = []
    checkpoints = saved(tmp_path, 1, 2, warn=warnings.append)
    for _ in range(2):  # the second time there is a '2.damaged' already
        (tmp_path / "2" / "record" / "metadata").unlink()
        assert_is_step(checkpoints.latest(state_of(0)), 1)
        assert_is_step(checkpoints.latest(state_of(0)), 1)
        assert sorted(os.listdir(tmp_path)) == ["1", "2.damaged"]
        checkpoints.save(2, state_of(2), meta_of(2))
    assert_is_step(checkpoints.latest(state_of(0)), 2)
    assert len(warnings) == 2


def test_reader_that_is_not_primary_renames_nothing(tmp_path):
    warnings = []
    saved(tmp_path, 1, 2)
    (tmp_path / "2" / "record" / "metadata").unlink()
    assert_is_step(saved(tmp_path, primary=False, warn=warnings.append).latest(state_of(0)), 1)
    assert len(warnings) == 1
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_all_checkpoints_damaged_returns_none_and_warns_for_each(tmp_path):
    warnings = []
    checkpoints = saved(tmp_path, 1, 2, warn=warnings.append)
    for step in "12":
        shutil.rmtree(tmp_path / step / "state")
    assert checkpoints.latest(state_of(0)) is None
    assert [line.split(" is damaged ")[0] for line in warnings] == [f"checkpoint {tmp_path / step}" for step in "21"]
    assert all(line.endswith("no earlier one is intact") for line in warnings)
    saved(tmp_path, 1)
    assert_is_step(checkpoints.latest(state_of(0)), 1)


def test_leftovers_of_a_killed_save_are_removed_by_the_next(tmp_path):
    saved(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    assert_is_step(saved(tmp_path).latest(state_of(0)), 1)
    saved(tmp_path, 3)
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]


def keep_saving(folder: Path, first: int, report) -> None:
    for step in itertools.count(first):
        saved(folder, step)
        report.send(step)


def test_kill_9_at_any_moment_of_a_save_loses_nothing_that_was_saved(tmp_path):
    """Ten times in the same folder, each resuming from where the one before was killed."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["poisonjax.runtime.checkpoint"])  # the imports, once
    moments, step = random.Random(0), 0
    for _ in range(10):
        reports, report = processes.Pipe(duplex=False)
        process = processes.Process(target=keep_saving, args=(tmp_path, step + 1, report))
        process.start()
        report.close()
        last = reports.recv()
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                last = reports.recv()
        restored = saved(tmp_path).latest(state_of(0))  # `refuse`: a kill is not damage
        step = restored[0]
        assert step in (last, last + 1)
        assert_is_step(restored, step)
    assert step > 10


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk is not permitted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Writes one file that leaves so many bytes free."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - left)))
    return ballast


def test_full_disk_is_one_line_and_leaves_the_checkpoint_before(small_disk, caplog, capfd):
    checkpoints = saved(small_disk / "run", 1)
    for left in (0, 2**16, 2**19):
        ballast = fill(small_disk, left)
        with pytest.raises(CheckpointError) as error:
            checkpoints.save(2, state_of(2), meta_of(2))
        assert str(error.value) == (
            f"checkpoint of step 2 cannot be written to {small_disk / 'run'}: No space left on device;"
            " the one of step 1 is intact"
        )
        assert os.listdir(small_disk / "run") == ["1"]
        assert_is_step(checkpoints.latest(state_of(0)), 1)
        ballast.unlink()
    checkpoints.save(2, state_of(2), meta_of(2))
    assert_is_step(checkpoints.latest(state_of(0)), 2)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def fill_up_while_orbax_writes(disk: Path) -> None:
    Checkpoints._find_room = lambda *_: None
    for left in range(0, 2**15, 2**12):
        checkpoints = saved(disk / f"{left}", 1)
        ballast = fill(disk, left)
        with pytest.raises(
            CheckpointError, match=r"cannot be written .*: No space left on device; the one of step 1 is"
        ):
            checkpoints.save(2, state_of(2), meta_of(2))
        assert_is_step(checkpoints.latest(state_of(0)), 1)
        ballast.unlink()
        checkpoints.save(2, state_of(2), meta_of(2))
        assert_is_step(checkpoints.latest(state_of(0)), 2)


def test_disk_that_fills_during_a_save_loses_nothing(small_disk):
    """In its own process: tensorstore's threads continue for a while and would print into later tests."""
    process = multiprocessing.get_context("forkserver").Process(target=fill_up_while_orbax_writes, args=(small_disk,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_save_that_fails_after_its_commit_can_be_repeated(tmp_path, monkeypatch):
    checkpoints, save = saved(tmp_path, 1), ocp.CheckpointManager.save

    def late_failure(*args, **kwargs):
        save(*args, **kwargs)
        raise OSError("the old one could not be removed")

    with (
        monkeypatch.context() as patch,
        pytest.raises(CheckpointError, match="the one of step 1 is intact"),
    ):
        patch.setattr(ocp.CheckpointManager, "save", late_failure)
        checkpoints.save(2, state_of(7), meta_of(7))
    assert_is_step(checkpoints.latest(state_of(0)), 1)
    checkpoints.save(2, state_of(2), meta_of(2))
    assert_is_step(checkpoints.latest(state_of(0)), 2)


def test_full_disk_on_the_first_save_reports_no_earlier_checkpoint(small_disk):
    fill(small_disk, 0)
    with pytest.raises(CheckpointError, match=r"No space left on device; there is no earlier one$"):
        saved(small_disk / "run", 1)


def test_only_orbax_logging_is_silenced(tmp_path, caplog):
    saved(tmp_path, 1)
    logging.getLogger("absl").error("of somebody else")
    assert [record.message for record in caplog.records] == ["of somebody else"]
