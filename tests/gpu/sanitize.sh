#!/usr/bin/env bash
# NVIDIA's compute-sanitizer over small trainings on both paths: accesses out of bounds, and races.
# Needs a GPU and compute-sanitizer: from the CUDA toolkit or the package nvidia-cuda-sanitizer-api.
#
#   PYTHON=.venv/bin/python TOOLS="memcheck racecheck" tests/gpu/sanitize.sh
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
export PYTHONPATH="$PWD:$PWD/tests${PYTHONPATH:+:$PYTHONPATH}"
if ! command -v compute-sanitizer >/dev/null; then
    echo "tests/gpu/sanitize.sh: compute-sanitizer, of the CUDA toolkit, is not on the PATH" >&2
    exit 2
fi
reason=$("$python" -c "import fastnn; print(fastnn.backends()['cuda'])") || exit 2
if [ "$reason" != available ]; then
    echo "tests/gpu/sanitize.sh: backend 'cuda' is $reason" >&2
    exit 2
fi
status=0
for path in persistent graph; do
    "$python" tests/gpu/sanitize_run.py "$path" || exit 2 # compile without the sanitizer
    for tool in ${TOOLS:-memcheck racecheck}; do
        echo "=== $tool, $path"
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "$python" tests/gpu/sanitize_run.py "$path" || status=1
    done
done
exit "$status"
