#!/bin/sh
# The extraction on a machine that has PyTorch or JAX, and an NVIDIA GPU, but no TensorFlow.
#
#   benchmarks/gpu.sh torch            # or: jax; further words go to benchmarks/gpu.py
#
# It runs from the checkout and installs nothing but what lies as wheels in ./wheels, into a
# folder of its own. Where the machine has no network, fill that folder elsewhere, for its Python:
#
#   pip download -d wheels --no-deps keras absl-py namex optree ml-dtypes h5py pillow rich tqdm xxhash
#
# Needed besides: numpy. The result is written to benchmarks/results/gpu-<date>-<device>.json.
set -eu
cd "$(dirname "$0")/.."
backend=${1:-torch}
[ $# -gt 0 ] && shift
case $backend in
torch | jax) ;;
*)
    echo "gpu.sh: expected torch or jax, got '$backend'" >&2
    exit 2
    ;;
esac
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if ls wheels/*.whl >/dev/null 2>&1; then
    "${PYTHON:-python3}" -m pip install -q --no-index --no-deps --no-compile --target "$site" wheels/*.whl
fi
export KERAS_BACKEND="$backend" PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
# JAX would take three quarters of the GPU's memory at once, the child processes' share included.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
"${PYTHON:-python3}" benchmarks/gpu.py "$@"
