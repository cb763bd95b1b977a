#!/usr/bin/env bash
# Run the paper scale on one accelerator, most important first, then update the tables. Run it again to resume.
# DATA: a folder of prepared tfds data sets. OUT: the folder of the runs.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:+--data_dir=$DATA}
out=${OUT:-runs/paper}

run() { # experiment, seeds
  python launch.py --experiment="$1" --scale=paper --seeds="$2" --workdir="$out/$1" ${data}
  mkdir -p "results/paper/$1"
  cp -r "$out/$1/record.json" "$out/$1/report.md" "$out/$1/figures" "results/paper/$1/"
}

sweep() { # experiment, axis
  python launch.py --experiment="$1" --scale=paper --sweep="$2" --workdir="$out/sweeps/$1" ${data}
  for file in "$out/sweeps/$1/sweep.json" "$out/sweeps/$1"/*/{record.json,report.md,figures}; do
    to="results/paper/sweeps/$1${file#"$out/sweeps/$1"}"
    mkdir -p "$(dirname "$to")"
    cp -r "$file" "$(dirname "$to")/"
  done
}

for seeds in 1 2 3; do
  run mnist_clean_label $seeds
  run mnist_badnets $seeds
done
for seeds in 1 2; do
  run cifar10_badnets_resnet18 $seeds
  run cifar10_clean_label_resnet18 $seeds
  run cifar10_baseline $seeds
done
for seeds in 1 2 3; do
  run mnist_baseline $seeds
  run cifar10_badnets $seeds
  run cifar10_clean_label $seeds
  run mnist_unbalanced_clean_label $seeds
  run mnist_unbalanced_badnets $seeds
done
for name in mnist_activations cifar10_activations mnist_capacity cifar10_capacity; do
  run $name 1
done
for seeds in 1 2; do
  run cifar10_badnets_mobilenet $seeds
  run cifar10_clean_label_mobilenet $seeds
done
run cifar10_adversarial_example 1
run mnist_attacks 1
sweep mnist_unbalanced_clean_label data.train.minority=100,500,2000,5000
sweep mnist_unbalanced_badnets data.train.minority=100,500,2000,5000
python -m poisonjax.reports
