# What the suites said, in short.

# Sums up the results $2 of the kernel $1, of which there must be $3 suites. Fails if a test failed, if
# a suite did not end, or if nothing ran.
report() {
    local version=$1 log=$2 suites=$3
    awk -v version="$version" -v wanted="$suites" '
        /^@@ kernel / { release = $3 }
        /^@@ begin / { suite = $3; lines = 0 }
        /^@@ end / {
            ended++
            seconds = $5
            if ($4 != 0 && !broken[suite]) failed[++failures] = suite ": ended with status " $4
        }
        /^@@ done/ { done = 1 }
        /^test .* \.\.\. ok$/ { passed++ }
        /^test .* \.\.\. FAILED$/ { failed[++failures] = suite "::" $2; broken[suite] = 1 }
        /^SKIPPED / {
            test = $2
            sub(/:$/, "", test)
            if (seen[test]++) next
            skipped++
            passed--
            sub(/^SKIPPED [^ ]* /, "")
            reasons[$0]++
        }
        END {
            if (!done) failed[++failures] = (suite ? suite : "boot") ": did not come to its end"
            else if (ended != wanted) failed[++failures] = "only " ended " suites ran"
            if (passed < 1) failed[++failures] = "no test passed"
            printf "\n%s (%s), %d s\n", version, release, seconds
            for (reason in reasons) printf "  skipped %d: %s\n", reasons[reason], reason | "sort"
            close("sort")
            for (i = 1; i <= failures; i++) printf "  failed: %s\n", failed[i]
            printf "%d passed, %d failed, %d skipped\n", passed, failures, skipped
            exit failures > 0
        }' "$log"
}
