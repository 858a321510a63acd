# shellcheck shell=bash
# What the scripts in this folder share. Source it from the root of the repository.

export CARGO_TERM_COLOR=never
export DEBIAN_FRONTEND=noninteractive

# Tools that the steps install for themselves. Only the first run builds them.
readonly TOOLS=${SCRAPEGATE_CI_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/scrapegate-ci}
TARGET=$(realpath -m "${CARGO_TARGET_DIR:-target}")
readonly TARGET

# The next run installs a tool again if its version here changed.
declare -rA CARGO_TOOLS=(
    [cargo-cyclonedx]=0.5.9
    [cargo-deb]=3.8.0
    [cargo-deny]=0.20.2
    [cargo-fuzz]=0.13.2
    [cargo-machete]=0.9.2
    [cargo-mutants]=27.1.0
    [mdbook]=0.5.4
)

# Debian packages by what needs them.
declare -rA PACKAGES=(
    [build]='g++ gcc libc6-dev'
    [deb]='adduser curl iproute2 lintian procps systemd systemd-container'
    [gates]='strace valgrind'
    [lint]='python3-venv shellcheck'
    [link]='iproute2'
    [man]='lowdown man-db mandoc'
    # The libraries that Debian's packages of the oldest compiler link to.
    [msrv]='libcurl4 libhttp-parser2.9 libllvm19 libpcre3 libsqlite3-0 libssh2-1'
    [peers]='caddy haproxy iproute2 nginx-light prometheus-exporter-exporter'
    [real]='ca-certificates chromium curl faketime golang-github-klauspost-compress-dev golang-go iproute2 openssl procps
        python3-venv sslscan strace prometheus prometheus-mysqld-exporter prometheus-node-exporter'
)

scratch=$(mktemp --directory)
clean_up() { rm -rf "$scratch"; }
trap clean_up EXIT

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# step NAME COMMAND...: runs the command and prints how long it took.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '\n==> %s\n' "$name"
    "$@"
    printf '<== %s: %d s\n' "$name" $((SECONDS - start))
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo --preserve-env=DEBIAN_FRONTEND,RUNLEVEL "$@"; fi
}

# need GROUP...: installs those Debian packages of the groups that are missing.
need() {
    local group package wanted=() missing=()
    for group in "$@"; do
        read -rd '' -a wanted <<<"${wanted[*]} ${PACKAGES[$group]}" || true
    done
    for package in "${wanted[@]}"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null |
            grep -qx installed || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    echo "installing ${missing[*]}"
    # In runlevel 1 the packages do not start their services. The tests start what they need.
    export RUNLEVEL=1
    as_root apt-get update -qq
    as_root apt-get install -y -qq --no-install-recommends "${missing[@]}"
    unset RUNLEVEL
}

# cargo_tool NAME [OPTION...]: installs a tool from crates.io, unless that version is installed.
cargo_tool() {
    # Debug builds are fast enough, and take half the time to build.
    CARGO_TARGET_DIR="$scratch/tools" cargo install --quiet --locked --debug --root "$TOOLS" \
        "$1@${CARGO_TOOLS[$1]}" "${@:2}"
    rm -rf "$scratch/tools"
}

# python_folder PACKAGE...: the virtual environment that has these versions.
python_folder() {
    local IFS=+
    printf '%s\n' "$TOOLS/$*"
}

# python_tools PROGRAM PACKAGE...: installs packages from PyPI into a virtual environment of their
# own, unless the program is there.
python_tools() {
    local program=$1 folder
    shift
    folder=$(python_folder "$@")
    [[ -x $folder/bin/$program ]] && return
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
}

# wait_for SECONDS COMMAND...: repeats the command until it succeeds. Fails after that time.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

release_build() {
    need build
    cargo build --locked --release
}
