# Functions for paper.sh and full.sh, which set scale. A record's folder is the workdir of its run: run again to resume.
# DATA: a folder of prepared tfds data sets. FLAGS: more flags of launch.py, such as --cpu_devices=2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
flags=(${DATA:+--data_dir="$DATA"} ${FLAGS:-})

run() { # experiment, seeds
  python launch.py --experiment="$1" --scale="$scale" --seeds="$2" --workdir="results/$scale/$1" "${flags[@]}"
}

sweep() { # experiment, axis
  python launch.py --experiment="$1" --scale="$scale" --sweep="$2" --workdir="results/$scale/sweeps/$1" "${flags[@]}"
}
