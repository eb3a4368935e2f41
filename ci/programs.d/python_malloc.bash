# The same tests with every object of CPython taken from malloc instead of CPython's own small-object pools: far more
# calls, of the smallest sizes, also from the worker processes and all that the tests start.
# shellcheck shell=bash source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/python.bash"

work() {
    export PYTHONMALLOC=malloc
    python_tests
}
