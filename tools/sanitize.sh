#!/usr/bin/env bash
# Run the tests of the Cython engine with its kernels built under GCC's address and undefined-
# behaviour sanitizers. Linux.
#
# Every array lies beside guard pages (tests/guard_pages.py), as sanitizers do not see masked vector
# accesses.
#
#   PYTHON=.venv/bin/python LEVELS="v3 v4" tools/sanitize.sh [arguments of pytest]
#
# Without LEVELS it tests all levels that this processor runs.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath --no-symlinks "$(command -v "${PYTHON:-python}")")
levels=${LEVELS:-base v3 v4}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -eq 0 ]; then
    set -- tests/test_contract.py tests/test_engines.py tests/test_engine_threads.py \
        tests/test_engine_predictions.py tests/test_fuzz.py tests/test_statistics.py
fi

flags="-fsanitize=address,undefined"
# The base level tells what the processor runs.
only=$(for level in base $levels; do printf 'float32_%s,float64_%s,' "$level" "$level"; done)
export CC="${CC:-gcc}"
CFLAGS="$flags -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g" LDFLAGS="$flags" \
    FASTNN_REQUIRE_EXT=1 "$python" setup.py --quiet build_py --build-lib "$work" \
    build_ext --build-lib "$work" --build-temp "$work/temp" --only "${only%,}"
cp -r tests pyproject.toml "$work"
cd "$work"

export PYTHONPATH="$work/tests" FASTNN_TEST_ENGINES=numpy,cython
export UBSAN_OPTIONS="print_stacktrace=1:log_path=$work/report"
export ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:log_path=$work/report"
export LD_PRELOAD="$("$CC" -print-file-name=libasan.so) $("$CC" -print-file-name=libubsan.so)"
status=0
supported=$("$python" -c \
    "from fastnn._kernels.cython_cpu import levels; print(*levels.supported())")
for level in $levels; do
    if [[ " $supported " != *" $level "* ]]; then
        echo "=== $level: this processor does not run it"
        continue
    fi
    echo "=== $level"
    FASTNN_CPU_LEVEL=$level "$python" -m pytest -q -p no:cacheprovider -p guard_pages --maxfail 5 \
        "$@" || status=$?
done
if ls report.* >/dev/null 2>&1; then
    head -n 30 report.*
    exit 1
fi
exit "$status"
