"""Data of one's own: what is read equals what was written, by the rules of docs/data.md."""

import json
import os
import shutil

import numpy as np
import own_files
import pytest
from PIL import Image

from poisonjax.data import DataError, Reading, images, load
from poisonjax.data.subsets import Stratified


@pytest.fixture(scope="module")
def digits(data_dir):
    """Real images: 30 of each class of mnist_5k."""
    return Stratified(300)(load("mnist_5k", data_dir).train)


@pytest.fixture(scope="module")
def written(digits, tmp_path_factory):
    """A folder of them, as PNG, one folder a class."""
    root = tmp_path_factory.mktemp("digits")
    for row, (image, label) in enumerate(zip(digits.image, digits.label, strict=True)):
        own_files.write(root / str(label) / f"{row}.png", own_files.encoded(image[..., 0]))
    return root


def by_name(made, place=lambda name: int(name.split("/")[-1].removesuffix(".png"))):
    """The rows of the written images that became the training rows, in their order."""
    return np.array([place(name) for name in made.names])


def test_png_files_of_a_folder_come_back_to_the_bit(digits, written):
    made = load(f"folder:{written}")
    rows = by_name(made)
    np.testing.assert_array_equal(made.train.image, digits.image[rows])
    np.testing.assert_array_equal(made.train.label, digits.label[rows])
    assert (made.name, made.classes, made.label_names) == (f"folder:{written}", 10, tuple("0123456789"))
    left = {image.tobytes() for image in digits.image} - {image.tobytes() for image in made.train.image}
    assert left == {image.tobytes() for image in made.test.image}
    assert made.facts["images"] == "28 x 28 x 1, as they are" and made.facts["left out"] == 0


def test_a_share_of_each_class_is_for_testing_by_names_and_seed_alone(written, tmp_path):
    first, again = load(f"folder:{written}"), load(f"folder:{written}", reading=Reading())
    assert np.bincount(first.train.label).tolist() == [24] * 10 and np.bincount(first.test.label).tolist() == [6] * 10
    assert first.names == again.names and first.sha256 == again.sha256
    moved = load(f"folder:{shutil.copytree(written, tmp_path / 'moved')}")
    assert moved.names == first.names
    other = load(f"folder:{written}", reading=Reading(split_seed=1, test_share=0.5))
    assert np.bincount(other.test.label).tolist() == [15] * 10
    assert "0.5 of each class" in other.facts["split"] and "seed 1" in other.facts["split"]
    assert set(load(f"folder:{written}", reading=Reading(split_seed=1)).names) != set(first.names)


def test_the_first_rows_are_of_all_classes(written):
    assert len(set(load(f"folder:{written}").test.label[:30].tolist())) >= 8


def test_train_and_test_folders_are_the_split(digits, tmp_path):
    for row in range(40):
        part = "train" if row < 30 else "test"
        path = tmp_path / part / f"digit{digits.label[row] % 2}" / "deeper" / f"{row}.PNG"
        own_files.write(path, own_files.encoded(digits.image[row, ..., 0]))
    made = load(f"folder:{tmp_path}")
    assert (len(made.train.label), len(made.test.label), made.facts["split"]) == (30, 10, "as given")
    rows = by_name(made, lambda name: int(name.split("/")[-1].removesuffix(".PNG")))
    assert sorted(rows) == list(range(30))
    np.testing.assert_array_equal(made.train.image, digits.image[rows])
    assert [made.label_names[label] for label in made.train.label] == [f"digit{digits.label[row] % 2}" for row in rows]


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path):
    own_files.folder(tmp_path, ["10", "9", "100"])
    assert load(f"folder:{tmp_path}").label_names == ("9", "10", "100")


def framed(form: str, size=(96, 64), **options) -> bytes:
    """A red square in the middle of a blue picture, or of a picture that is cut to it."""
    image = Image.new("RGB", size, "blue")
    side = min(size)
    image.paste("red", ((size[0] - side) // 2, (size[1] - side) // 2, (size[0] + side) // 2, (size[1] + side) // 2))
    return own_files.encoded(image, form, **options)


def test_colour_files_of_several_sizes_are_scaled_and_cut_around_their_centre(tmp_path):
    for row, size in enumerate([(96, 64), (128, 300), (64, 64), (1000, 80)]):
        own_files.write(tmp_path / "a" / f"{row}.jpeg", framed("JPEG", size, quality=95))
        own_files.write(tmp_path / "b" / f"{row}.webp", framed("WEBP", size, lossless=True))
    made = load(f"folder:{tmp_path}")
    assert (
        made.train.image.shape == (6, 64, 64, 3) and made.facts["images"] == "64 x 64 x 3, scaled and cut to this size"
    )
    inner = made.train.image[:, 4:-4, 4:-4].astype(int)  # the filter blends the edge
    assert np.abs(inner - [255, 0, 0]).max() <= 8
    assert load(f"folder:{tmp_path}", reading=Reading(image_size=20)).train.image.shape == (6, 20, 20, 3)


def test_images_of_one_size_are_kept_and_scaled_only_on_request(tmp_path):
    for row in range(4):
        image = np.random.default_rng(row).integers(0, 256, (12, 40, 3), np.uint8)
        own_files.write(tmp_path / "ab"[row % 2] / f"{row}.png", own_files.encoded(image))
    made = load(f"folder:{tmp_path}")
    assert made.train.image.shape == (2, 12, 40, 3) and "as they are" in made.facts["images"]
    assert load(f"folder:{tmp_path}", reading=Reading(image_size=12)).train.image.shape == (2, 12, 12, 3)


def test_gray_is_kept_only_if_all_images_are_gray(tmp_path):
    own_files.folder(tmp_path, size=8)
    assert load(f"folder:{tmp_path}").train.image.shape[1:] == (8, 8, 1)
    assert load(f"folder:{tmp_path}", reading=Reading(channels=3)).train.image.shape[1:] == (8, 8, 3)
    own_files.write(tmp_path / "cat" / "colour.png", own_files.encoded(np.zeros((8, 8, 3), np.uint8)))
    assert load(f"folder:{tmp_path}").train.image.shape[1:] == (8, 8, 3)
    assert load(f"folder:{tmp_path}", reading=Reading(channels=1)).train.image.shape[1:] == (8, 8, 1)


def turned() -> bytes:
    """White on the left, black on the right, and Exif that says to turn it clockwise by a quarter."""
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 4, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    return own_files.encoded(image, "WEBP", lossless=True, exif=exif)


def palette(**options) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return own_files.encoded(image, **options)


PIXELS = {  # an image of 8 x 8 -> its upper left pixel in colour
    "black and white": (own_files.encoded(Image.new("1", (8, 8), 1)), [255, 255, 255]),
    "palette": (palette(), [10, 200, 30]),
    "transparent palette": (palette(transparency=1), [255, 255, 255]),
    "half transparent": (own_files.encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), [127, 127, 127]),
    "transparent gray": (own_files.encoded(Image.new("LA", (8, 8), (9, 0))), [255, 255, 255]),
    "one transparent colour": (own_files.encoded(Image.new("RGB", (8, 8), "red"), transparency=(255, 0, 0)), [255] * 3),
    "opaque gray": (own_files.encoded(Image.new("LA", (8, 8), (9, 255))), [9, 9, 9]),
    "CMYK": (own_files.encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), [254, 0, 0]),
    "a camera's pair": (
        own_files.encoded(
            Image.new("RGB", (8, 8), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]
        ),
        [254, 0, 0],
    ),
    "turned by Exif": (turned(), [255, 255, 255]),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_other_modes_become_eight_bits_by_rule(kind, tmp_path):
    content, pixel = PIXELS[kind]
    own_files.folder(tmp_path, size=8)
    path = own_files.write(tmp_path / "cat" / "one.png", content)
    with open(path, "rb") as file:
        found = images.decode(file, 8, 8, 3)
    assert np.abs(found[0, 0].astype(int) - pixel).max() <= 1
    if kind == "turned by Exif":
        assert found[0].min() == 255 and found[-1].max() == 0
    assert load(f"folder:{tmp_path}").train.image.shape[1] == 8


def names_of(*names: str) -> dict:
    """The metadata in which Hugging Face keeps the names of classes."""
    features = {"label": {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def test_parquet_of_hugging_face_comes_back_to_the_bit(digits, tmp_path):
    pytest.importorskip("pyarrow")
    encoded = [own_files.encoded(image[..., 0]) for image in digits.image]
    about = names_of(*(f"digit {label}" for label in range(10)))
    for name, rows in {
        "train-00000-of-00002": (0, 100),
        "train-00001-of-00002": (100, 200),
        "test-0": (200, 300),
    }.items():
        part, labels = encoded[slice(*rows)], digits.label[slice(*rows)].tolist()
        own_files.parquet(tmp_path / "data" / f"{name}.parquet", part, labels, about)
    own_files.parquet(tmp_path / "data" / "validation-0.parquet", encoded[:10], digits.label[:10].tolist(), about)
    made = load(f"parquet:{tmp_path}")
    assert (len(made.train.label), len(made.test.label), made.facts["split"]) == (200, 100, "as given")
    rows = by_name(made, lambda name: int(name.split(":")[1]) + 100 * ("train-00001" in name))
    assert sorted(rows) == list(range(200))
    np.testing.assert_array_equal(made.train.image, digits.image[rows])
    np.testing.assert_array_equal(made.train.label, digits.label[rows])
    assert made.label_names[3] == "digit 3"
    assert {image.tobytes() for image in made.test.image} == {image.tobytes() for image in digits.image[200:]}


def test_a_single_parquet_file_with_texts_as_labels_is_divided(digits, tmp_path):
    pytest.importorskip("pyarrow")
    texts = [f"class {label}" for label in digits.label]
    encoded = [own_files.encoded(image[..., 0]) for image in digits.image]
    path = own_files.parquet(tmp_path / "all.parquet", encoded, texts, column="img", age=list(range(300)))
    made = load(f"parquet:{path}")
    rows = by_name(made, lambda name: int(name.removeprefix("all.parquet:")))
    np.testing.assert_array_equal(made.train.image, digits.image[rows])
    assert np.bincount(made.test.label).tolist() == [6] * 10 and made.label_names[9] == "class 9"


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_npz_comes_back_to_the_bit(floating, channels, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 8, 9, *channels), np.uint8)
    label = np.arange(12)[:, None] % 3  # as Keras has those of CIFAR-10
    given = image.astype(np.float32) / 255 if floating else image
    path = own_files.npz(tmp_path / "a.npz", x_train=given, y_train=label, x_test=given[:3], y_test=label[:3])
    made = load(f"npz:{path}")
    rows = by_name(made, int)
    assert sorted(rows) == list(range(12))
    np.testing.assert_array_equal(made.train.image, image.reshape(12, 8, 9, *(channels or (1,)))[rows])
    np.testing.assert_array_equal(made.train.label, label[rows, 0])
    assert len(made.test.label) == 3 and made.facts["split"] == "as given"


def test_npz_without_a_test_split_is_divided_and_may_have_texts_as_labels(tmp_path):
    labels = np.array(["cat", "dog", "eel"])[np.arange(12) % 3]
    made = load(f"npz:{own_files.npz(tmp_path / 'a.npz', y_train=labels, x_test=None, y_test=None)}")
    assert made.label_names == ("cat", "dog", "eel")
    assert np.bincount(made.train.label).tolist() == [3, 3, 3] and np.bincount(made.test.label).tolist() == [1, 1, 1]
    assert [labels[int(name)] for name in made.names] == [made.label_names[label] for label in made.train.label]


def test_any_tfds_is_read_as_a_known_one_is(data_dir):
    known, made = load("mnist_5k", data_dir), load("tfds:mnist_5k", data_dir)
    assert made.sha256 == known.sha256 and made.facts["split"] == "as given"
    assert made.names[:2] == ("train:0", "train:1") and len(made.names) == 4000


@pytest.fixture
def counted(monkeypatch) -> list:
    """Grows by one with each image that is decoded."""
    calls, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *given: calls.append(1) or decode(*given))
    return calls


def test_decoded_images_are_kept_until_a_file_changes(tmp_path, counted):
    root, data_dir = own_files.folder(tmp_path / "a"), str(tmp_path / "kept")
    first, second = load(f"folder:{root}", data_dir), load(f"folder:{root}", data_dir)
    assert len(counted) == 8 and first.sha256 == second.sha256 and first.names == second.names
    os.utime(root / "cat" / "0.png", (1, 1))
    load(f"folder:{root}", data_dir)
    assert len(counted) == 16
    own_files.write(root / "cat" / "new.png", own_files.encoded(own_files.gray(77)))
    assert len(load(f"folder:{root}", data_dir).train.label) == 7 and len(counted) == 25
    load(f"folder:{root}", data_dir, Reading(channels=3))
    assert len(counted) == 34


def test_a_damaged_copy_is_made_again(tmp_path, counted):
    root, data_dir = own_files.folder(tmp_path / "a"), str(tmp_path / "kept")
    first = load(f"folder:{root}", data_dir)
    (path,) = (tmp_path / "kept" / "own").glob("*.decoded")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    again = load(f"folder:{root}", data_dir)
    assert len(counted) == 16 and again.sha256 == first.sha256


def test_rows_that_cannot_be_read_are_left_out_on_request_and_counted(tmp_path):
    own_files.folder(tmp_path, rows=10)
    for row in range(3):
        own_files.write(tmp_path / "cat" / f"broken{row}.png", b"no image")
    own_files.write(tmp_path / "dog" / "notes.txt")
    with pytest.raises(DataError, match="4 of 24 files cannot be used") as raised:
        load(f"folder:{tmp_path}")
    assert [note.partition(":")[0] for note in sorted(raised.value.details)] == [
        "'cat/broken0.png'",
        "'cat/broken1.png'",
        "'cat/broken2.png'",
        "'dog/notes.txt'",
    ]
    made = load(f"folder:{tmp_path}", reading=Reading(skip_broken=True))
    assert made.facts["left out"] == 4 and len(made.train.label) + len(made.test.label) == 20
    values = {(name, image[0, 0, 0]) for name, image in zip(made.names, made.train.image, strict=True)}
    assert all(value == ("dog" in name) * 10 + int(name[4:-4]) for name, value in values)


def test_more_broken_files_than_twenty_are_counted(tmp_path):
    own_files.folder(tmp_path)
    for row in range(30):
        own_files.write(tmp_path / "cat" / f"broken\n{row:02}<b>.png", b"no image")
    with pytest.raises(DataError) as raised:
        load(f"folder:{tmp_path}")
    assert len(raised.value.details) == 21 and raised.value.details[-1] == "and 10 more"
    assert raised.value.details[0].startswith(r"'cat/broken\n00<b>.png': ")


def test_hidden_files_and_those_beside_the_classes_that_are_no_images_are_not_read(tmp_path):
    own_files.folder(tmp_path)
    for name in ("README.txt", ".cache/a.png", "cat/.DS_Store", "cat/.ipynb_checkpoints/a.png"):
        own_files.write(tmp_path / name, b"no image")
    assert load(f"folder:{tmp_path}").facts["left out"] == 0


def test_links_within_the_folder_are_followed_to_files(tmp_path):
    own_files.folder(tmp_path)
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "cat" / "0.png")
    made = load(f"folder:{tmp_path}")
    assert len(made.train.label) + len(made.test.label) == 9


def test_what_does_not_fit_in_memory_is_refused_before_it_is_read(tmp_path, monkeypatch, counted):
    own_files.folder(tmp_path)
    own_files.npz(tmp_path / "a.npz")
    pytest.importorskip("pyarrow")
    own_files.parquet(tmp_path / "a.parquet", [own_files.encoded(own_files.gray(0, 300))] * 20, [0, 1] * 10)
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    with pytest.raises(
        DataError, match=r"8 images of 28 x 28 x 1 are 0\.0 GB, more than half of the 0\.0 GB of memory"
    ):
        load(f"folder:{tmp_path}")
    assert not counted
    for source in ("npz:{}/a.npz", "parquet:{}/a.parquet"):
        monkeypatch.setattr(os, "sysconf", lambda name: 20)
        with pytest.raises(DataError, match=r"more than half of the 0\.0 GB of memory here; use fewer rows"):
            load(source.format(tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 0}, "image_size must lie between 1 and 4096 pixels, got 0"),
        ({"channels": 4}, "channels must be 1 or 3, got 4"),
        ({"test_share": 1.0}, r"test_share must lie in \(0, 1\), got 1.0"),
    ],
)
def test_impossible_readings_are_refused(setting, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Reading(**setting)
