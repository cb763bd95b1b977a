"""The folder of the site: exchanged as a whole, and never one that holds anything else."""

import json
import os
import pathlib
import re
import shutil

from poisonjax.reports.site import pages, reading
from poisonjax.runtime import files

MARKER = ".poisonjax-site"  # lists the files that the site consists of


ADDRESS = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


def write(records: pathlib.Path, out: pathlib.Path, url: str = "") -> None:
    """Make out the site of all records below a folder; the old site stays until the new one is complete.

    url: the address of its first page's folder, which cards on other sites need to show a picture; "" if not known.
    ValueError for records that are missing or damaged, for an out that is no site of ours, and for no address.
    """
    if url and not ADDRESS.fullmatch(url):
        raise ValueError(f"--url={url} must be the address of a folder, such as https://example.org/results")
    if not records.is_dir():
        raise ValueError(f"--records {records} is not a folder")
    found = reading.collect(records)
    if not any(found):
        raise ValueError(f"--records {records} holds no record.json, sweep.json or evaluation.json")
    target = out.resolve()
    _refuse(records.resolve(), target, out)
    contents = pages.written(found, url and url.rstrip("/") + "/")
    contents[MARKER] = (json.dumps({"format": 1, "files": sorted(contents)}, indent=1) + "\n").encode()
    _exchange(contents, target)


def _refuse(records: pathlib.Path, target: pathlib.Path, out: pathlib.Path) -> None:
    """ValueError if anything but a site of ours would be lost."""
    if records.is_relative_to(target):
        raise ValueError(f"--out {out} holds the records: give another --out")
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"--out {out} is not a folder")
    there = [path for path in target.rglob("*") if not path.is_dir() or path.is_symlink()]
    if foreign := sorted({path.relative_to(target).as_posix() for path in there} - _ours(target)):
        raise ValueError(f"--out {out} holds {foreign[0]!r}, which is not of a site made here: give another --out")


def _ours(target: pathlib.Path) -> set[str]:
    """The files that the marker lists; none where there is no marker, or none that can be read."""
    try:
        return {MARKER, *json.loads((target / MARKER).read_bytes())["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _exchange(contents: dict[str, bytes], target: pathlib.Path) -> None:
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        for path, content in contents.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(content)
        files.publish(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
