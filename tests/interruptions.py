"""Kill a run at random moments until it ends, and compare it with one without interruptions.

    python tests/interruptions.py --kills=20

Exit status 0 if every metric, every curve and every poisoned row is the same to the last bit.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]


def command(workdir: pathlib.Path | str, *flags: str) -> list[str]:
    """The run, saving after every compiled call."""
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        f"--workdir={workdir}",
        "--save_every=0",
        "--shared_networks=none",
        *flags,
    ]


def started(workdir: pathlib.Path | str, *flags: str) -> subprocess.Popen:
    """The run in the background, with its output captured."""
    return subprocess.Popen(command(workdir, *flags), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(workdir: pathlib.Path | str, *flags: str) -> str:
    """The output of the run, which must succeed."""
    ended = subprocess.run(command(workdir, *flags), capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"exit status {ended.returncode}: {ended.stdout}{ended.stderr}")
    return ended.stdout + ended.stderr


def results(workdir: pathlib.Path) -> dict:
    """All of a record that must not depend on interruptions: all but the clock."""
    record = json.loads((workdir / "record.json").read_text())
    clock = {"seconds", "train_images_per_second"}
    arms = {arm: {name: metrics[name] for name in metrics.keys() - clock} for arm, metrics in record["arms"].items()}
    return {"arms": arms, **{name: record[name] for name in ("analyses", "poison", "verdict", "finding", "warnings")}}


def stopped(process: subprocess.Popen, number: signal.Signals, after: float) -> bool:
    """True if the process was still running when the signal came, `after` seconds from now."""
    time.sleep(after)
    running = process.poll() is None
    process.send_signal(number)
    process.communicate()
    return running


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("flags", nargs="*", help="more flags of launch.py, after --")
    args = parser.parse_args()
    flags = args.flags or ["--experiment=mnist_clean_label", "--scale=smoke", "--set=train.epochs=40"]
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        calm, hunted = pathlib.Path(folder, "calm"), pathlib.Path(folder, "hunted")
        start = time.monotonic()
        finished(calm, *flags)
        length, hits = time.monotonic() - start, 0
        print(f"undisturbed: {length:.0f} s", flush=True)
        while hits < args.kills:
            after = draw.uniform(0, length)
            if stopped(started(hunted, *flags), signal.SIGKILL, after):
                hits += 1
                saved = sum(1 for _ in hunted.glob("seed*/*/checkpoints/[0-9]*"))
                print(f"kill {hits} after {after:5.1f} s; checkpoints there: {saved}", flush=True)
            elif (hunted / "record.json").exists():
                print("ended; from the beginning again", flush=True)
                same = results(calm) == results(hunted)
                print("identical" if same else "DIFFERENT", flush=True)
                if not same:
                    return 1
                subprocess.run(["rm", "-r", str(hunted)], check=True)
        finished(hunted, *flags)
        same = results(calm) == results(hunted)
        print(f"{hits} kills: {'every result is identical to the last bit' if same else 'RESULTS DIFFER'}")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
