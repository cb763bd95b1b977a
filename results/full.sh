#!/usr/bin/env bash
# Make the records of the full scale on two cores, most important first, then update the tables. Run it again to resume.
scale=full
source "$(dirname "$0")/run.sh"

for seeds in 1 2 3; do
  for name in mnist_badnets mnist_clean_label mnist_baseline mnist_unbalanced_clean_label mnist_unbalanced_badnets; do
    run $name $seeds
  done
done
sweep mnist_removes_or_reveals 'poison=BadNets(.1,0),BadNets(.1),CleanLabel()'
run cifar10_badnets 1
run cifar10_clean_label 1
sweep mnist_unbalanced_clean_label data.train.minority=100,500,2000,5000
sweep mnist_unbalanced_badnets data.train.minority=100,500,2000,5000
python -m poisonjax report tables
