#!/usr/bin/env bash
# Mixed precision on this machine: fp32, tf32, bf16 and fp16 side by side, as pages in docs/benchmarks/.
#
#   benchmarks/gpu_amp.sh                     yolo26 n, s and m at 640 px; minutes on a GPU
#   benchmarks/gpu_amp.sh yolo26n imgsz=96 steps=2 batch=2 device=cpu           a try-out on a CPU
#
# Words with = go to "det bench amp" as they are; other words are models.  Nothing is downloaded (the
# data set is drawn) and nothing needs to be installed but what det imports.
# PYTHON names the interpreter, PAGES the folder of the pages.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
pages=${PAGES:-$root/docs/benchmarks}
declare -A words=([data]=shapes.yaml [imgsz]=640 [batch]=16 [steps]=40 [rounds]=5)
models=()
for word in "$@"; do
  case $word in
    *=*) words[${word%%=*}]=${word#*=} ;;
    *) models+=("$word") ;;
  esac
done
((${#models[@]})) || models=(yolo26n yolo26s yolo26m)
options=()
for name in "${!words[@]}"; do options+=("$name=${words[$name]}"); done

# The checkout is importable as yolodet through a link, installed or not.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$root" "$work/yolodet"
export PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

for model in "${models[@]}"; do
  "$python" -m yolodet.cli bench amp "${options[@]}" model="$model" project="$work/runs" name="$model"
  "$python" "$root/benchmarks/amp_page.py" "$work/runs/$model" "$pages"
done
