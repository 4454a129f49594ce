#!/bin/sh
# Runs the network tests on io_uring with each rung of the set-up forced off: one by one, all
# together, and with the smallest queues and pools.
#
# Arguments are passed on to the test binaries: uring-tests/rungs.sh some_test
set -eu
cd "$(dirname "$0")/.."

BINARIES="driver connections servers streams transports unix_sockets no_byte"
RUNGS="
no_sqarray=off
registered_fd=off
no_iowait=off
absolute_timeouts=off
inline_sends=off
multishot_receive=off
multishot_accept=off
no_sqarray=off,registered_fd=off,no_iowait=off,absolute_timeouts=off,inline_sends=off,multishot_receive=off,multishot_accept=off
sq_entries=64,cq_entries=256,buffers=64
sq_entries=2,cq_entries=4,buffers=64
sq_entries=2,cq_entries=4,buffers=4,inline_sends=off
"

tests=
for binary in $BINARIES; do
    tests="$tests --test $binary"
done
# shellcheck disable=SC2086
cargo test -q -p uring-tests $tests --no-run

failed=
for rung in $RUNGS; do
    echo "== $rung"
    skip=
    case "$rung" in
    # This test keeps more buffers than there are.
    *buffers=4,*) skip="--skip pro_02_kept_leases_stay_as_they_were" ;;
    esac
    # shellcheck disable=SC2086
    if ! RINGLOOP_URING="$rung" cargo test -q -p uring-tests $tests --no-fail-fast -- on_uring $skip "$@"; then
        failed="$failed $rung"
    fi
done
if [ -n "$failed" ]; then
    echo "failed on:$failed"
    exit 1
fi
echo "every rung holds"
