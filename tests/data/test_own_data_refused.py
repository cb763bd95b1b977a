"""Bad data of one's own: one line, a line for each broken file, and status 2 on the command line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_files import encoded, folder, gray, npz, parquet, png, write
from PIL import Image

from poisonjax.cli import run
from poisonjax.data import Reading, load


def with_file(name: str, content: bytes | Callable[[Path], None]) -> Callable[[Path], str]:
    """A sound folder of eight images, and one more file in it."""

    def make(root: Path) -> str:
        path = folder(root / "a") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content(path) if callable(content) else write(path, content)
        return f"folder:{root / 'a'}"

    return make


def with_folders(*names: str, **options) -> Callable[[Path], str]:
    """Folders of images, and empty ones, whose names end with a slash."""

    def make(root: Path) -> str:
        folder(root / "a", [name for name in names if not name.endswith("/")], **options)
        for name in names:
            (root / "a" / name).mkdir(parents=True, exist_ok=True)
        return f"folder:{root / 'a'}"

    return make


def with_npz(**changed) -> Callable[[Path], str]:
    return lambda root: f"npz:{npz(root / 'a.npz', **changed)}"


def with_parquet(*names: str, images=None, labels=None, **more) -> Callable[[Path], str]:
    """Files of these names, or a single one, with eight rows of two classes."""

    def make(root: Path) -> str:
        pytest.importorskip("pyarrow")
        rows = [encoded(gray(row)) for row in range(8)] if images is None else images
        for name in names or ("all.parquet",):
            parquet(
                root / "a" / name, rows, [row % 2 for row in range(len(rows))] if labels is None else labels, **more
            )
        return f"parquet:{root / 'a'}"

    return make


def with_split(root: Path) -> Path:
    return folder(root / "a", [f"{part}/{name}" for part in ("train", "test") for name in ("cat", "dog")])


def with_link(root: Path) -> Path:
    """Its training split is a link to a folder outside."""
    (root / "train").rename(root.parent / "elsewhere")
    (root / "train").symlink_to(root.parent / "elsewhere")
    return root


def outside(path: Path) -> None:
    """A link to an image that is not below the folder."""
    path.symlink_to(write(path.parents[2] / "secret.png", encoded(gray())))


def bomb() -> bytes:
    """A small file that says to be a picture of 400 megapixels."""
    return png(20_000, 20_000)


def animated(form: str) -> bytes:
    return encoded(Image.new("RGB", (8, 8)), form, save_all=True, append_images=[Image.new("RGB", (8, 8), "red")])


def other_format(data_dir: str, root: Path) -> None:
    """mnist_5k as if it were stored as TFRecord."""
    shutil.copytree(Path(data_dir) / "mnist_5k", root / "tfds" / "mnist_5k", dirs_exist_ok=True)
    (info,) = (root / "tfds").rglob("dataset_info.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))


# kind of input: (what makes it and names it, or its name, the message, and whether it is about a file of many)
FOLDERS = {
    "no folder": ("folder:/nowhere", "there is no folder '/nowhere'"),
    "a file": (lambda root: f"folder:{write(root / 'a.png', encoded(gray()))}", "there is no folder"),
    "empty": (lambda root: f"folder:{root}", "has 0 classes; at least 2 are needed"),
    "one class": (with_folders("cat"), "has 1 class; at least 2 are needed"),
    "no images": (with_folders("cat/", "dog/"), "class 'cat' has no image to train on"),
    "an empty class": (with_folders("cat", "dog/"), "class 'dog' has no image to train on"),
    "one image a class": (with_folders("cat", "dog", rows=1), "class 'cat' has 1 image; at least 2 are needed"),
    "validation for test": (with_folders("train/", "val/"), "has train/ and val/, but no test/; rename val/ to test/"),
    "a class of the test": (with_folders("train/cat", "train/dog", "test/eel"), "class 'eel' is in test/, but not in"),
    "a split that is a link": (
        lambda root: f"folder:{with_link(with_split(root))}",
        "train/ is a link; put the folder itself there",
    ),
    "nothing to test on": (with_folders("train/cat", "train/dog", "test/cat/"), "there is no image to test on"),
    "smaller than the trigger": (with_folders("cat", "dog", size=3), "needs images of at least 4 x 4 pixels"),
    "fewer rows than a batch": (with_folders("cat", "dog"), "train.batch must be at most the 6 training rows, got 64"),
}
FILES = {
    "no image": (with_file("cat/a.png", b"no image"), "'cat/a.png': is no PNG, JPEG or WebP image"),
    "no bytes": (with_file("cat/a.png", b""), "'cat/a.png': is no PNG, JPEG or WebP image"),
    "another format": (with_file("cat/a.png", encoded(gray(), "GIF")), "is no PNG, JPEG or WebP image"),
    "another suffix": (with_file("cat/a.gif", encoded(gray(), "GIF")), "called neither .png, .jpg, .jpeg nor .webp"),
    "a note": (with_file("cat/notes.txt", b"a"), "'cat/notes.txt': is called neither"),
    "half a PNG": (with_file("cat/a.png", encoded(gray(9, 300))[:-40]), "'cat/a.png': "),
    "half a JPEG": (
        with_file("dog/a.jpg", encoded(gray(9, 300), "JPEG")[:600]),
        "'dog/a.jpg': image file is truncated",
    ),
    "half a WebP": (with_file("dog/a.webp", encoded(gray(9, 300), "WEBP")[:-20]), "'dog/a.webp': "),
    "a bomb": (with_file("cat/a.png", bomb()), "'cat/a.png': "),
    "more pixels than allowed": (with_file("cat/a.png", png(10_000, 10_000)), "'cat/a.png': "),
    "16 bits, gray": (with_file("cat/a.png", png(28, 28, 16, 0, bytes(28 * 57))), "has more than 8 bits a channel"),
    "16 bits, colour": (with_file("cat/a.png", png(28, 28, 16, 2, bytes(28 * 169))), "has more than 8 bits a channel"),
    "an animation": (with_file("cat/a.webp", animated("WEBP")), "has 2 frames; one is allowed"),
    "an animated PNG": (with_file("cat/a.png", animated("PNG")), "has 2 frames; one is allowed"),
    "a link that leaves": (with_file("cat/a.png", outside), "'cat/a.png': is a link that leaves the folder"),
    "a link to a folder": (
        with_file("cat/a", lambda path: path.symlink_to("../dog")),
        "'cat/a': is a link to a folder",
    ),
    "a class that is a link": (with_file("b", lambda path: path.symlink_to("/etc")), "'b': is a link that leaves"),
    "a link to nothing": (with_file("cat/a.png", lambda path: path.symlink_to("b.png")), "a folder, or to nothing"),
    "a link to itself": (with_file("cat/a.png", lambda path: path.symlink_to("a.png")), "a folder, or to nothing"),
    "a pipe": (with_file("cat/a.png", os.mkfifo), "'cat/a.png': is no regular file"),
    "an image of no class": (with_file("a.png", encoded(gray())), "'a.png': lies beside the folders of the classes"),
    "an image of a split": (
        lambda root: f"folder:{write(with_split(root) / 'test' / 'a.png', encoded(gray())).parents[1]}",
        "'test/a.png': lies beside the folders of the classes",
    ),
    "a name of two lines": (with_file("cat/a\n<b>.png", b"no image"), r"'cat/a\n<b>.png': is no PNG"),
    "a path without bytes": (with_parquet(images=[None] + [encoded(gray())] * 7), "'all.parquet:0': has no bytes"),
    "a row that is no image": (with_parquet(images=[encoded(gray())] * 7 + [b"x"]), "'all.parquet:7': is no PNG"),
}
OTHERS = {
    "unknown kind": (
        "foldr:/p",
        "unknown data set 'foldr:/p': allowed are mnist, cifar10, mnist_5k, phishing, spambase, ember:PATH, folder:",
    ),
    "misspelt kind": ("foldr:/p", "tfds:NAME; did you mean folder?"),
    "no place": ("folder:", "unknown data set 'folder:': allowed are"),
    "tfds without its kind": ("fashion_mnist", "unknown data set 'fashion_mnist': allowed are"),
    "an unprintable place": ("folder:/a\x1b[31m", r"'folder:/a\x1b[31m' has a character that cannot be printed"),
    "not prepared": (
        "tfds:fashion_mnist",
        "is not prepared in DATA_DIR; prepare it where TensorFlow is installed: tfds b",
    ),
    "no npz": ("npz:/nowhere.npz", "there is no file '/nowhere.npz'"),
    "text as npz": (lambda root: f"npz:{write(root / 'a.npz', b'text')}", "cannot be read ("),
    "half an npz": (
        lambda root: f"npz:{write(root / 'b.npz', npz(root / 'a.npz').read_bytes()[:900])}",
        "cannot be read",
    ),
    "a pickled object": (
        with_npz(y_train=np.array([{}] * 12)),
        "Object arrays cannot be loaded when allow_pickle=False",
    ),
    "no labels": (
        with_npz(y_train=None),
        "must have x_train, y_train, x_test, y_test, or the first two, got x_train, x",
    ),
    "half a split": (with_npz(y_test=None), "must have x_train, y_train, x_test, y_test, or the first two"),
    "flat images": (
        with_npz(x_train=np.zeros((12, 784))),
        "x_train must be [n h w], or [n h w c] with 1 or 3 channels",
    ),
    "channels first": (with_npz(x_train=np.zeros((12, 3, 8, 8))), "x_train must be [n h w], or [n h w c] with 1 or 3"),
    "other channels": (with_npz(x_train=np.zeros((12, 8, 8, 4))), "x_train must be [n h w], or [n h w c] with 1 or 3"),
    "another size": (with_npz(x_test=np.zeros((6, 9, 9))), "must have the classes and the image shape of the training"),
    "floats of bytes": (with_npz(x_train=np.full((12, 8, 8), 255.0)), "images must lie in [0, 1], got 255 to 255"),
    "not a number": (with_npz(x_train=np.full((12, 8, 8), np.nan)), "images must lie in [0, 1]"),
    "16 bits a pixel": (
        with_npz(x_train=np.zeros((12, 8, 8), np.uint16)),
        "must be uint8 or floating in [0, 1], got ui",
    ),
    "fewer labels": (with_npz(y_train=np.arange(11) % 3), "x_train has 12 rows, but there are 11 labels"),
    "floats as labels": (
        with_npz(y_train=np.zeros(12)),
        "labels must be whole numbers or texts, one a row, got float64",
    ),
    "labels below 0": (
        with_npz(y_train=np.arange(12) % 3 - 1),
        "labels must be numbered from 0, each class with an imag",
    ),
    "labels of a million": (
        with_npz(y_train=np.full(12, 10**6)),
        "labels must be numbered from 0, each class with an im",
    ),
    "labels with a gap": (with_npz(y_train=np.arange(12) % 2 * 2), "class '1' has no image to train on"),
    "a class of the test only": (with_npz(y_test=np.full(6, 3)), "labels must be numbered from 0"),
    "no parquet": ("parquet:/nowhere", "there is neither a file '/nowhere' nor a folder of that name"),
    "text as parquet": (lambda root: f"parquet:{write(root / 'a.parquet', b'text')}", "'a.parquet' cannot be read ("),
    "two image columns": (
        with_parquet(more=[{"bytes": b""}] * 8),
        "it must have one column of images, a struct with b",
    ),
    "a missing label": (
        with_parquet(labels=[0, 1, None, 1] * 2),
        "labels must be all whole numbers or all texts, none mi",
    ),
    "a test split alone": (with_parquet("test.parquet"), "must tell train and test, or no split at all, got test;"),
    "a validation split": (
        with_parquet("train.parquet", "val.parquet"),
        "or no split at all, got train, val; name a single",
    ),
}


def refused(flags: list, tmp_path: Path, capsys) -> list[str]:
    """The lines on standard error of a run that exits with status 2, and leaves nothing."""
    status = run.main([*map(str, flags), f"--workdir={tmp_path / 'w'}"], "launch.py")
    captured = capsys.readouterr()
    assert status == 2 and not captured.out and not (tmp_path / "w").exists()
    return captured.err.rstrip("\n").split("\n")


def flags_of(source, root: Path) -> list[str]:
    named = source(root) if callable(source) else source
    return ["--experiment=mnist_badnets", "--scale=smoke", f"--data={named}", f"--data_dir={root / 'kept'}"]


@pytest.mark.parametrize("case", FOLDERS | OTHERS)
def test_bad_data_are_one_line_and_status_two(case, tmp_path, capsys):
    source, message = (FOLDERS | OTHERS)[case]
    lines = refused(flags_of(source, tmp_path), tmp_path, capsys)
    assert len(lines) == 1 and lines[0].startswith("launch.py: ")
    assert message.replace("DATA_DIR", str(tmp_path / "kept")) in lines[0]


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_named_on_a_line_of_its_own(case, tmp_path, capsys):
    source, message = FILES[case]
    lines = refused(flags_of(source, tmp_path), tmp_path, capsys)
    assert len(lines) == 2 and "1 of " in lines[0] and "files cannot be used; repair or remove them" in lines[0]
    assert message in lines[1] and str(tmp_path) not in lines[1]


MNIST = ["--experiment=mnist_badnets", "--scale=smoke"]
FLAGS = {
    "a reading of a known data set": ([*MNIST, "--skip_broken"], "mnist_5k: is read in one way only"),
    "no size": ([*MNIST, "--image_size=0"], "--image_size=0: must be a whole number of at least 1"),
    "a size twice": (
        [*MNIST, "--image_size=9", "--set=data.reading=Reading(9)"],
        "--image_size and --skip_broken would be",
    ),
    "a size for arrays": ([*MNIST, "--image_size=9"], "arrays are used as they are; leave out image_size and channels"),
    "no such channels": ([*MNIST, "--set=data.reading=Reading(channels=2)"], "channels must be 1 or 3, got 2"),
    "an estimate": ([*MNIST, "--estimate"], "--estimate is for the data of the experiment; leave out --data"),
    "AutoAttack": (["--experiment=mnist_badnets", "--scale=small", "--set=train.batch=5"], "needs at least 4 classes"),
    "a target": (
        ["--experiment=mnist_clean_label", "--scale=smoke"],
        "has 3 classes: target must be one of the classes",
    ),
    "another network": ([*MNIST, "--set=model=ReportCNN(classes=4)"], "poison.classes is 3, but model.classes is 4"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_bad_flags_about_data_are_one_line_and_status_two(case, tmp_path, capsys, data_dir):
    flags, message = FLAGS[case]
    source = "mnist_5k" if case == "a reading of a known data set" else f"npz:{npz(tmp_path / 'a.npz')}"
    lines = refused([*flags, f"--data={source}", f"--data_dir={data_dir}"], tmp_path, capsys)
    assert len(lines) == 1 and message in lines[0]


def test_a_network_that_is_too_large_for_the_images_is_refused(tmp_path, capsys):
    source = npz(tmp_path / "a.npz", 90, x_train=np.zeros((90, 4, 4), np.uint8), x_test=np.zeros((6, 4, 4), np.uint8))
    flags = [*MNIST, f"--data=npz:{source}", "--set=model=ReportCNN(classes=3)", "--set=train.batch=9"]
    (line,) = refused(flags, tmp_path, capsys)
    assert "ReportCNN cannot take images of 4 x 4 x 1" in line


def test_tfds_of_another_format_is_refused_with_the_way_to_prepare_it(data_dir, tmp_path, capsys):
    other_format(data_dir, tmp_path)
    flags = [*MNIST, "--data=tfds:mnist_5k", f"--data_dir={tmp_path / 'tfds'}"]
    (line,) = refused(flags, tmp_path, capsys)
    assert "is stored as tfrecord, not as array_record; prepare it" in line and "--file_format=array_record" in line


def test_rows_left_out_may_leave_too_few(tmp_path, capsys):
    folder(tmp_path / "a")
    for path in (tmp_path / "a" / "dog").iterdir():
        path.write_bytes(b"no image")
    (line,) = refused([*MNIST, f"--data=folder:{tmp_path / 'a'}", "--skip_broken"], tmp_path, capsys)
    assert "class 'dog' has no image to train on" in line


def test_nothing_outside_the_folder_is_read_even_when_broken_files_are_skipped(tmp_path):
    source = with_file("cat/a.png", outside)(tmp_path)
    (tmp_path / "secret.png").write_bytes(encoded(gray(123)))
    made = load(source, reading=Reading(skip_broken=True))
    assert made.facts["left out"] == 1 and 123 not in np.concatenate([made.train.image, made.test.image])
