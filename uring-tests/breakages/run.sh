#!/usr/bin/env bash
# Shows that the tests bite: applies each breakage kept here to a copy of the sources and demands that a
# test with the family's id in its name fails then.
#
#   uring-tests/breakages/run.sh [FAMILY…]      all families without an argument, else e.g. RNR GRF
#   uring-tests/breakages/run.sh --list         the families, with how many breakages each has
#
# A breakage is a file <FAMILY>-<letter>.patch. Its first line says which tests must fail:
#
#   Fails: [options of cargo test]
#
# then comes a diff that changes the crate, usually one line of it. What does not apply, does not
# compile, or fails no test, is an error: then the breakage has to be brought up to date, or a test is
# missing. A test that hangs counts as failed: its watchdog names it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

if [ "${1:-}" = --list ]; then
    find "$here" -name '*.patch' -printf '%f\n' | sed 's/-[a-z]*\.patch$//' | sort | uniq -c
    exit 0
fi

target=${CARGO_TARGET_DIR:-$root/target}/breakages
copy=$target/copy
log=$target/log
export CARGO_TARGET_DIR=$target/build CARGO_TERM_COLOR=never CARGO_INCREMENTAL=1
export RINGLOOP_TEST_WATCHDOG=${RINGLOOP_TEST_WATCHDOG:-60} RUST_BACKTRACE=0
# The copy is no part of the repository around it.
export GIT_CEILING_DIRECTORIES=$target

families=("$@")
patches=()
if [ $# -eq 0 ]; then
    mapfile -t patches < <(find "$here" -name '*.patch' | sort)
fi
for family in "${families[@]}"; do
    mapfile -t found < <(find "$here" -name "$family-*.patch" | sort)
    if [ ${#found[@]} -eq 0 ]; then
        echo "no breakage of $family" >&2
        exit 2
    fi
    patches+=("${found[@]}")
done

# Only what changed since the last time, so that little is compiled again.
mkdir -p "$copy"
mapfile -t files < <(cd "$root" && git ls-files --cached --others --exclude-standard)
for file in "${files[@]}"; do
    if [ -f "$root/$file" ] && ! cmp -s "$root/$file" "$copy/$file"; then
        mkdir -p "$(dirname "$copy/$file")"
        cp "$root/$file" "$copy/$file"
    fi
done
(cd "$copy" && find . -type f -printf '%P\n') | while read -r file; do
    if [ ! -f "$root/$file" ]; then rm "$copy/$file"; fi
done

failures=()
bites() {
    local patch=$1 name family line
    name=$(basename "$patch" .patch)
    family=${name%-*}
    line=$(sed -n '1s/^Fails: //p' "$patch")
    if [ -z "$line" ]; then
        echo 'its first line does not begin with "Fails: "'
        return 1
    fi
    if ! (cd "$copy" && git apply -C1 "$patch") 2>"$log"; then
        echo 'does not apply'
        return 1
    fi
    # shellcheck disable=SC2086
    if ! (cd "$copy" && cargo test $line --no-run) >"$log" 2>&1; then
        echo 'does not compile'
        return 1
    fi
    local id="${family,,}_[0-9][0-9]*_"
    # shellcheck disable=SC2086
    (cd "$copy" && cargo test $line -- "${family,,}_") >"$log" 2>&1 || true
    if grep -Eom1 "^(test|watchdog: test) [a-z0-9_:]*\b$id[a-z0-9_:]*( \.\.\. FAILED| still runs)" "$log"; then
        return 0
    fi
    if grep -q 'running [1-9]' "$log"; then echo 'no test fails'; else echo 'no test ran'; fi
    return 1
}

for patch in "${patches[@]}"; do
    started=$SECONDS
    if said=$(bites "$patch"); then verdict=bites; else verdict=FAILED && failures+=("$(basename "$patch")"); fi
    printf '%-10s %s: %s (%s s)\n' "$(basename "$patch" .patch)" "$verdict" "$(tail -n1 <<<"$said")" $((SECONDS - started))
    # What it changed is as it was.
    sed -n 's/^+++ b\///p' "$patch" | while read -r file; do
        cp "$root/$file" "$copy/$file"
    done
done
if [ ${#failures[@]} -gt 0 ]; then
    echo "${#failures[@]} of ${#patches[@]} breakages do not bite: ${failures[*]}"
    exit 1
fi
echo "all ${#patches[@]} breakages bite"
