#!/usr/bin/env bash
# Runs the integration tests inside real containers: one leg for each answer that a container may
# give to a program that wants io_uring.
#
#   uring-tests/container.sh [LEG…]      all legs without an argument
#
#   allowed          the seccomp profile allows io_uring
#   blocked-enosys   podman's stock profile: io_uring_setup answers ENOSYS
#   blocked-eperm    as Docker's profile: io_uring_setup answers EPERM
#   memlock          io_uring allowed, 64 KiB of locked memory
#
# Needs root and Debian's packages podman, runc and jq (installed when missing). No registry is
# asked: the image is an empty skeleton, /usr and the sources are mounted read-only, and cargo
# starts each test binary through this script (its first argument is then --inside). The test
# `leg_is_what_it_says` fails when a leg is not what its name says.
set -euo pipefail

readonly image=localhost/ringloop-tests
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# What cargo calls: one test binary, in one container.
inside() {
    local options=(
        --rm --runtime runc --pull=never --network=none --log-driver=none --timeout 900
        # Without these two podman raises the limits, which may be refused.
        --ulimit nofile=4096:4096 --ulimit nproc=4096:4096
        --tmpfs /tmp:rw,mode=1777
        --volume /usr:/usr:ro --volume "$root:$root:ro"
        --volume "$RINGLOOP_CONTAINER_TARGET:$RINGLOOP_CONTAINER_TARGET:ro"
        --security-opt "seccomp=$RINGLOOP_CONTAINER_SECCOMP"
        --workdir "$PWD" --env PATH=/usr/bin:/bin
    )
    local path name
    for path in /etc/alternatives /etc/protocols /etc/services; do
        if [ -e "$path" ]; then options+=(--volume "$path:$path:ro"); fi
    done
    for name in $(compgen -e | grep -E '^(CARGO_MANIFEST|RINGLOOP_|RUST_)'); do
        options+=(--env "$name")
    done
    if [ -n "${RINGLOOP_CONTAINER_MEMLOCK:-}" ]; then
        options+=(--ulimit "memlock=$RINGLOOP_CONTAINER_MEMLOCK:$RINGLOOP_CONTAINER_MEMLOCK")
    fi
    # A shell as process 1, so that signals mean to the tests what they mean elsewhere.
    # shellcheck disable=SC2016
    exec podman run "${options[@]}" "$image" /bin/sh -c '"$@"; exit $?' sh "$@"
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
fi

# Tests of the driver and of connections, one after the other: what a ring is charged is given back
# only some milliseconds after it is closed, and counts for every process of the user. A binary that
# found too little is tried again; who adds up results shall not count such a try. Left out are those
# whose tests make several loops at once.
if [ "${1:-}" = --memlock ]; then
    for test in leg memlock no_startup driver driver_uring connections servers unix_sockets streams closing; do
        for try in 1 2 3; do
            if cargo test -p uring-tests --test "$test" -- --test-threads=1 |
                sed -u 's/^test result: FAILED/result of this try: FAILED/'; then continue 2; fi
            echo "container.sh: $test failed with little memory to lock, try $try of 3"
            sleep 1
        done
        exit 1
    done
    exit 0
fi

say() { printf '\n== container: %s\n' "$*"; }

install_missing() {
    local missing=() pair
    for pair in podman:podman runc:runc jq:jq; do
        if ! command -v "${pair%%:*}" >/dev/null; then missing+=("${pair##*:}"); fi
    done
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q </dev/null
        apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
    fi
}

# An empty root file system: everything in it is mounted or made by podman.
make_image() {
    local skeleton
    skeleton=$(mktemp -d)
    mkdir -p "$skeleton"/{usr,tmp,proc,sys,dev,etc,run,var}
    ln -s usr/bin "$skeleton/bin"
    ln -s usr/sbin "$skeleton/sbin"
    ln -s usr/lib "$skeleton/lib"
    ln -s usr/lib64 "$skeleton/lib64"
    echo 'root:x:0:0:root:/tmp:/bin/sh' >"$skeleton/etc/passwd"
    echo 'hosts: files' >"$skeleton/etc/nsswitch.conf"
    podman image rm --force "$image" >/dev/null 2>&1 || true
    tar -C "$skeleton" -c . | podman import --quiet - "$image" >/dev/null
    rm -r "$skeleton"
}

# The stock profile names no io_uring call, which its default answers with ENOSYS.
make_profiles() {
    local stock=/usr/share/containers/seccomp.json
    local calls='["io_uring_setup", "io_uring_enter", "io_uring_register"]'
    cp "$stock" "$work/blocked-enosys.json"
    jq ".syscalls += [{names: $calls, action: \"SCMP_ACT_ALLOW\"}]" "$stock" >"$work/allowed.json"
    jq ".syscalls += [{names: $calls, action: \"SCMP_ACT_ERRNO\", errnoRet: 1}]" "$stock" \
        >"$work/blocked-eperm.json"
    cp "$work/allowed.json" "$work/memlock.json"
}

leg() {
    local name=$1 started=$SECONDS
    shift
    say "leg $name"
    # The same packages and features as the plain test run: nothing is compiled again.
    env "RINGLOOP_TEST_LEG=$name" "RINGLOOP_CONTAINER_SECCOMP=$work/$name.json" "$@"
    say "leg $name passed in $((SECONDS - started)) s"
}

suite() { leg "$1" "${@:2}" cargo test --workspace --test '*'; }

run_leg() {
    case $1 in
        allowed) suite allowed ;;
        blocked-enosys | blocked-eperm) suite "$1" RINGLOOP_TEST_URING=blocked ;;
        memlock) leg memlock RINGLOOP_CONTAINER_MEMLOCK=65536 "$here/container.sh" --memlock ;;
        *)
            echo "container.sh: unknown leg $1" >&2
            exit 2
            ;;
    esac
}

cd "$root"
install_missing
target=$(cargo metadata --format-version 1 --no-deps --offline | jq -r .target_directory)
host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
work=$target/container
mkdir -p "$work"
make_image
make_profiles
export RINGLOOP_CONTAINER_TARGET=$target
export "CARGO_TARGET_${host}_RUNNER=$here/container.sh --inside"
# Programs that tests start.
cargo build --workspace --examples
if [ $# -eq 0 ]; then
    set -- allowed blocked-enosys blocked-eperm memlock
fi
for name in "$@"; do
    run_leg "$name"
done
