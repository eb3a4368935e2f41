# CPython's own tests. Which tests pass, fail or are skipped is compared test by test, since some fail or are skipped
# for what the machine is; a crash or a hang shows as the module's result.
# Left out: times, the order of the modules, the machine's description (only names and results are taken).
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=/usr/bin/python3
binds=python3
probe=(/usr/bin/python3 -c pass)
side_limit=280

MODULES="test_json test_dict test_list test_threading test_bytes test_array test_io"

# The report of the tests, one line each: name, result.
results_of() {
    /usr/bin/python3 - "$1" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
for case in tree.parse(sys.argv[1]).iter("testcase"):
    results = sorted({part.tag for part in case} & {"error", "failure", "skipped"})
    print(case.get("name"), *results or ["passed"])
PYTHON
}

python_tests() {
    LIMIT=260
    # shellcheck disable=SC2086  # one word a module
    try /usr/bin/python3 -m test -j2 --timeout 120 --tempdir . --junit-xml tests.xml $MODULES >modules.txt
    cat modules.txt
    # "0:00:08 load avg: 0.42 [6/7/1] test_x failed (2 errors) (31.3 sec)" becomes "test_x failed (2 errors)".
    sed -n 's/^.*\[ *[0-9/]*\] \(test_[a-z]* .*\)$/\1/p' modules.txt |
        sed -E 's/ \([0-9.]+ (sec|min)[^)]*\)//' | sort >"$OUT/modules"
    [ "$(grep -c . "$OUT/modules")" -eq "$(echo "$MODULES" | wc -w)" ] || wrong "not every module has a result"
    results_of tests.xml | sort >"$OUT/tests"
    [ "$(grep -c ' passed$' "$OUT/tests")" -ge 1000 ] || wrong "fewer than 1,000 tests passed"

    local failing
    failing=$(grep -vE ' (passed|skipped)$' "$OUT/tests" | cut -d ' ' -f 1 | xargs)
    [ -z "$failing" ] || note "these fail here without the library too: $failing"
}

work() { python_tests; }
