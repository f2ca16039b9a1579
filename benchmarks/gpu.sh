#!/usr/bin/env bash
# The speed of training on this machine's GPU, as a page in docs/benchmarks/: under ten minutes.
#
#   benchmarks/gpu.sh                         everything
#   benchmarks/gpu.sh --budget 240            the most telling part of it in four minutes
#   benchmarks/gpu.sh --dry-run               a try-out on a CPU
#
# Words go to benchmarks/gpu.py as they are.  Nothing is downloaded (images are made up) and nothing
# needs to be installed but torch, torchvision, NumPy, OpenCV and safetensors.
# PYTHON names the interpreter, PAGES the folder of the pages.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
pages=${PAGES:-$root/docs/benchmarks}

# The checkout is importable as yolodet through a link, installed or not.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$root" "$work/yolodet"
export PYTHONPATH="$work${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" "$root/benchmarks/gpu.py" --out "$pages" "$@"
