#!/usr/bin/env bash
# The paper scale, most important first; each line goes on where it was stopped. DATA: a prepared tfds folder.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:+--data_dir=$DATA}
out=${OUT:-runs/paper}
for seeds in 1 2 3; do
  for name in mnist_clean_label mnist_badnets; do
    python launch.py --experiment=$name --scale=paper --seeds=$seeds --workdir="$out/$name" ${data}
    mkdir -p "results/$name" && cp -r "$out/$name/record.json" "$out/$name/report.md" "$out/$name/figures" "results/$name/"
  done
done
