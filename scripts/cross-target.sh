# shellcheck shell=bash
# Functions for the scripts that build for another machine than this one. Sourced, not run.
#
# A target needs the standard library compiled for it. Three sources, the first that serves wins:
#   1. the toolchain on PATH has it (a developer machine that ran `rustup target add`);
#   2. rustup can fetch it within a minute (needs the network);
#   3. Debian's rustc-web with the library's sources, from which cargo builds it (build-std).
# WHARF_STD=build forces the third, so that it can be tested where the others would serve.

# Says what is being done, on standard error, so that standard output stays the tests' own.
say() { printf '== %s\n' "$*" >&2; }

# Ends the script with a message.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# packages NAME...: installs those Debian packages that are not there yet. Needs root only then.
packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || die "install the equivalents of: ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || die "as root: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 || die "no package lists: are Debian's mirrors within reach?"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "could not install ${missing[*]}: are Debian's mirrors within reach?"
}

# has_std TARGET: whether the toolchain on PATH holds the standard library for it.
has_std() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    compgen -G "$libraries/libstd-*" >/dev/null
}

# std_for TARGET...: makes cargo able to build for every one of them, by the order above.
std_for() {
    local target missing=()
    for target in "$@"; do
        has_std "$target" || missing+=("$target")
    done
    if [ "${WHARF_STD:-any}" != build ]; then
        [ ${#missing[@]} -eq 0 ] && return
        if command -v rustup >/dev/null &&
            timeout 60 rustup target add "${missing[@]}" >/dev/null 2>&1; then
            say "rustup supplied the standard library for ${missing[*]}"
            return
        fi
    fi
    packages rustc-web rust-web-src libstd-rust-web-dev
    say "building the standard library with $(/usr/bin/rustc --version)"
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
    # build-std is an unstable flag; the variable lets a stable compiler take it.
    export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_unwind,test
}
