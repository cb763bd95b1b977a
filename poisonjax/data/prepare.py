"""Prepare tfds record files from official files or the network, atomically and without TensorFlow."""

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from poisonjax.data import raw, records
from poisonjax.data.sources import DataError, Source, Splits, find, one_line
from poisonjax.runtime import files

_TIMEOUT_S = 10


def builder(name: str, data_dir: str | None = None):
    """The registered tfds builder of `name`, prepared or not.

    DataError for an unknown name, one that the package carries, or a damaged folder.
    """
    if find(name).carried:
        raise DataError(f"{name} comes with poisonjax: there is nothing to prepare, and no record files to stream from")
    import tensorflow_datasets as tfds

    from poisonjax.data import mnist_5k  # noqa: F401 - registers its builder

    try:
        return tfds.builder(name, data_dir=data_dir and Path(data_dir).expanduser().absolute())
    except Exception as error:  # whatever a damaged dataset_info.json makes tfds raise
        raise DataError(f"{name} in {data_dir or 'the tfds folder'} cannot be opened: {one_line(error)}") from error


def prepared(name: str, data_dir: str | None = None, from_raw: str | None = None):
    """The registered tfds builder of `name`, whose record files are written first if they are missing.

    They come from the official files in `from_raw`, or else from the network (mnist_5k needs neither). They appear
    under `data_dir` (None: tfds's own default) complete or, after an error or a kill, not at all. DataError, with a
    remedy, if they cannot be written.
    """
    opened = builder(name, data_dir)
    if is_prepared(opened):
        return opened
    root = Path(opened.data_dir_root)
    read = _reader(name, root, from_raw)
    try:
        with locked(root):
            if not is_prepared(builder(name, data_dir)):
                _build(name, root, read)
    except OSError as error:
        raise DataError(f"{name} cannot be prepared in {root}: {one_line(error)}") from error
    return builder(name, data_dir)


def is_prepared(opened) -> bool:
    """True if the record files of a tfds builder exist. DataError if its folder contains anything else."""
    folder = Path(opened.data_dir)
    if not folder.exists():
        return False
    if not (folder / "dataset_info.json").exists():
        raise DataError(f"{folder} is not a complete tfds data set (no dataset_info.json); delete it and prepare again")
    if opened.info.file_format.value != "array_record":
        stored = opened.info.file_format.value
        raise DataError(f"{folder} is stored as {stored}, not array_record; use another data_dir or delete it")
    for path in record_files(opened):
        if not path.exists():
            raise DataError(f"{path} is missing; delete {folder} and prepare again")
    return True


def record_files(opened) -> list[Path]:
    """Record files of a prepared builder."""
    return [Path(path) for split in opened.info.splits.values() for path in split.filepaths]


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Wait until no other process writes under `root`, created if absent, and keep the others waiting."""
    root.mkdir(parents=True, exist_ok=True)
    with files.locked(root / ".poisonjax.lock", wait=True):
        yield


def _reader(name: str, root: Path, from_raw: str | None) -> Callable[..., Splits]:
    """A function dl_manager -> splits. Errors are raised here, before anything is written, where possible."""
    source = find(name)
    if from_raw is not None:
        splits = raw.from_folder(source, Path(from_raw).expanduser())
        return lambda dl_manager: splits
    if source.files:
        with _offline_way(name, root, source):
            _reach(source.url + source.published[0])
    return partial(_download, name, root, source)


def _download(name: str, root: Path, source: Source, dl_manager) -> Splits:
    with _offline_way(name, root, source):
        return raw.from_downloads(source, dl_manager.download)


@contextlib.contextmanager
def _offline_way(name: str, root: Path, source: Source) -> Iterator[None]:
    """Raise any failure to download as DataError, one line with the command that works offline."""
    try:
        yield
    except Exception as error:  # requests, tfds, a proxy: each raises its own kinds
        command = f"python -m poisonjax.data prepare {name} --from_raw DIR --data_dir {shlex.quote(str(root))}"
        raise DataError(
            f"{name} is not prepared in {root} and cannot be downloaded; offline: {command} "
            f"(DIR contains {raw.wanted(source)}); reason: {one_line(error)}"
        ) from error


def _reach(url: str) -> None:
    """Raise within seconds without a network; tfds would retry for minutes."""
    import requests

    with requests.get(url, stream=True, timeout=_TIMEOUT_S) as response:
        response.raise_for_status()


def _build(name: str, root: Path, read: Callable[..., Splits]) -> None:
    import tensorflow_datasets as tfds

    staging = root / f".{name}.incomplete"
    shutil.rmtree(staging, ignore_errors=True)  # leftovers of a killed preparation
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        staged = _without_tensorflow(name, staging, read) if find(name).files else builder(name, str(staging))
        with _quiet():
            staged.download_and_prepare(file_format="array_record", download_config=config)
        files.publish(Path(staged.data_dir), root / name / Path(staged.data_dir).name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _without_tensorflow(name: str, data_dir: Path, read: Callable[..., Splits]):
    """The official builder, with the two methods replaced that need TensorFlow to read and encode."""
    import tensorflow_datasets as tfds

    official, label_names = tfds.builder_cls(name), find(name).label_names

    class WithoutTensorflow(official, skip_registration=True):
        name = official.name

        def _split_generators(self, dl_manager):
            if label_names:
                self.info.features["label"].names = list(label_names)
            return {split: self._generate_examples(split, *arrays) for split, arrays in read(dl_manager).items()}

        def _generate_examples(self, split, images, labels):
            return records.keyed(images, labels, f"{split}_" if "id" in self.info.features else None)

    return WithoutTensorflow(data_dir=data_dir)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of tfds, which name temporary folders, and, unless on a terminal, its progress bars."""
    import tensorflow_datasets as tfds

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
