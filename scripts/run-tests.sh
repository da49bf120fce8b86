#!/usr/bin/env bash
# Runs every test, in two lines side by side: those against real servers and namespaces mostly wait, the others compute.
#
#     scripts/run-tests.sh            prints the first line as it goes, then the second as a whole
#     scripts/run-tests.sh ARG...     one line of pytest with these arguments, as for looking at one test
#
# Fails when either fails. Each line ends with pytest's own closing words.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pytest=.venv/bin/pytest

if (($#)); then
    exec "$pytest" "$@"
fi

second=$(mktemp)
waiting=
tidy() {
    if [[ -n $waiting ]]; then
        kill "$waiting" 2>/dev/null || true
        wait "$waiting" 2>/dev/null || true
    fi
    rm -f "$second"
}
trap tidy EXIT

# Each line keeps to a cache of its own: both write it at their end.
"$pytest" -o cache_dir=.pytest_cache/system tests/system >"$second" 2>&1 &
waiting=$!
failed=0
"$pytest" -o cache_dir=.pytest_cache/rooms --ignore=tests/system || failed=$?
echo "Now those with real servers, since the same moment:"
wait "$waiting" || failed=$?
waiting=
cat "$second"
exit "$failed"
