#!/usr/bin/env bash
# Make the records of the paper scale on one accelerator, most important first, then update the tables. Run it again to
# resume.
scale=paper
source "$(dirname "$0")/run.sh"

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
python -m poisonjax report tables
