#!/usr/bin/env bash
# Train on the GPUs of this machine with one process for each:
#
#   GPUS=8 bash scripts/launch/gpus.sh --config=configs/ssd300_vgg16_coco.py --workdir=runs/mine
#
# One process for all GPUs is simpler and needs no script:
#   .venv/bin/python -m ssd_jax.main --config=… --workdir=…
# Several processes have an input pipeline each, which helps where decoding limits the rate. The
# output of process I is in LOGS/I.log. SIGTERM and Ctrl-C to this script are passed on to all
# processes. See docs/pods.md.
set -uo pipefail
: "${GPUS:?how many GPUs}"
PORT=${PORT:-29400} LOGS=${LOGS:-logs}
mkdir -p "$LOGS"
processes=()
for ((i = 0; i < GPUS; i++)); do
  JAX_LOCAL_DEVICE_IDS=$i .venv/bin/python -m ssd_jax.main "$@" --coordinator="127.0.0.1:$PORT" \
    --num_processes="$GPUS" --process_id="$i" >"$LOGS/$i.log" 2>&1 &
  processes+=($!)
done
trap 'kill -TERM "${processes[@]}" 2>/dev/null' TERM INT

# The first exit code that is neither 0 nor 42, else 42 (start the same command again), else 0.
worst=0
for process in "${processes[@]}"; do
  wait "$process"
  code=$?
  while kill -0 "$process" 2>/dev/null; do # a signal ended `wait`, not the process
    wait "$process"
    code=$?
  done
  if [ "$code" -ne 0 ] && { [ "$worst" -eq 0 ] || [ "$worst" -eq 42 ]; }; then
    worst=$code
  fi
done
exit "$worst"
