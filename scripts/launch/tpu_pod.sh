#!/usr/bin/env bash
# Train on all workers of a Cloud TPU slice: start or restart one process on each.
#
#   TPU=my-slice ZONE=us-central2-b bash scripts/launch/tpu_pod.sh \
#     --config=configs/ssd300_vgg16_coco.py --workdir=/mnt/shared/runs/mine
#
# Needed on all workers: this repository in ~/ssd_jax with `pip install "jax[tpu]" -r
# requirements.txt`, the data, and a file system for --workdir that they share (Filestore over
# NFS). JAX finds the other workers. See docs/pods.md.
set -euo pipefail
: "${TPU:?name the slice}" "${ZONE:?name its zone}"
printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd ~/ssd_jax && exec python3 -m ssd_jax.main$arguments"
