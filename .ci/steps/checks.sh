# shellcheck shell=bash
# Checks of the sources and of the manifests. None of them runs scrapegate.

readonly MAX_LINES=500
readonly WORKFLOW_TOOLS=(check-jsonschema==0.39.0 zizmor==1.32.0)

file_lengths() {
    local file lines long=0
    while IFS= read -r file; do
        lines=$(wc -l <"$file")
        if ((lines > MAX_LINES)); then
            printf '%s has %d lines\n' "$file" "$lines"
            long=1
        fi
    done < <(git ls-files '*.rs')
    ((long == 0)) || fail "files over $MAX_LINES lines"
}

# A path of one developer's machine means nothing to anyone else.
machine_paths() {
    local homes='/(work|root|home/[a-z]+)/|/tmp/(wt|target)-'
    if git grep -nE "$homes" -- . ':!Cargo.lock' ':!.ci/steps/checks.sh'; then
        fail "tracked files contain paths of one machine"
    fi
}

shell_scripts() {
    need lint
    local scripts=()
    # The scripts that these source are checked with them.
    mapfile -t scripts < <(git grep -lIE '^#!(/usr/bin/env (ba)?sh|/bin/(ba)?sh)' -- .ci packaging ':!*.sh')
    ((${#scripts[@]} > 5)) || fail "only ${#scripts[@]} shell scripts found"
    shellcheck --external-sources --check-sourced "${scripts[@]}"
}

# The workflow files and templates of the forge, against the schemas that check-jsonschema ships.
# Nothing is downloaded. zizmor looks for workflows that an attacker could abuse.
workflow_files() {
    need lint
    python_tools zizmor "${WORKFLOW_TOOLS[@]}"
    local tools
    tools=$(python_folder "${WORKFLOW_TOOLS[@]}")/bin
    local check=("$tools/check-jsonschema" --quiet --no-cache --builtin-schema)
    "${check[@]}" vendor.github-workflows .github/workflows/*.yml
    # Each job has a time limit.
    "${check[@]}" custom.github-workflows-require-timeout .github/workflows/*.yml
    "${check[@]}" vendor.dependabot .github/dependabot.yml
    "${check[@]}" vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
    "${check[@]}" vendor.github-issue-forms .github/ISSUE_TEMPLATE/{bug,feature}.yml
    "$tools/zizmor" --offline --quiet .github
    nightly_has_all "$(basename --suffix=.rs fuzz/fuzz_targets/*.rs)"
    nightly_has_all "$(sed -nE 's/^readonly ALL=\((.*)\)$/\1/p' .ci/mutants)"
}

# Fails if nightly.yml does not name all these fuzz targets or groups of mutants.
nightly_has_all() {
    local name
    for name in $1; do
        grep -E '^ +(target|group): \[' .github/workflows/nightly.yml | grep -w "$name" >/dev/null ||
            fail ".github/workflows/nightly.yml leaves $name out"
    done
}

clippy() {
    need build
    cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
}

api_documentation() {
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
}

# tests/links.rs checks the links of the book.
book() {
    cargo_tool mdbook --no-default-features
    "$TOOLS/bin/mdbook" build --dest-dir "$TARGET/book"
}

licenses_bans_and_sources() {
    cargo_tool cargo-deny
    "$TOOLS/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources
}

# Clones the RustSec database from its forge, so it is not part of a run without that network.
advisories() {
    cargo_tool cargo-deny
    "$TOOLS/bin/cargo-deny" --locked check --hide-inclusion-graph advisories
}

unused_dependencies() {
    cargo_tool cargo-machete
    "$TOOLS/bin/cargo-machete" .
}

# What `cargo publish` would upload, compiled from the packed file. The dependencies are those of
# the debug build.
crate() {
    need build
    local files
    # A change that is not committed yet can be packed too.
    files=$(cargo package --locked --list --allow-dirty)
    grep -qx src/main.rs <<<"$files" || fail "the crate has no src/main.rs"
    if grep -E '^((\.ci|\.github|benches|fuzz|target)/|tests/.*\.rs$)' <<<"$files"; then
        fail "the crate has files that only this repository needs"
    fi
    CARGO_TARGET_DIR=$TARGET cargo package --locked --allow-dirty 2>&1 | tee "$scratch/crate"
    # Tests and benchmarks are left out on purpose.
    if grep '^warning' "$scratch/crate" | grep -vE '^warning: ignoring (test|benchmark) '; then
        fail "cargo package warns"
    fi
}

# The compiler of `rust-version` in Cargo.toml is the oldest one that builds scrapegate.
readonly OLDEST_DEPENDENCIES=(time@0.3.45 rcgen@0.14.7)

oldest_version() { sed -nE 's/^rust-version = "(.*)"$/\1/p' Cargo.toml; }

# oldest_toolchain VERSION: prints the folder with its `cargo` and `rustc`. They come from rustup if it has them, otherwise
# from packages of Debian 12. The packages are unpacked, not installed: installed ones would replace
# another `rustc`.
oldest_toolchain() {
    local version=$1 folder=$TOOLS/rust-$1 package
    if rustup run "$version" rustc --version >/dev/null 2>&1; then
        dirname "$(rustup which --toolchain "$version" rustc)"
        return
    fi
    if [[ ! -x $folder/usr/bin/rustc ]]; then
        need msrv >&2
        as_root apt-get update -qq >&2
        mkdir "$scratch/debs"
        for package in cargo-web rustc-web libstd-rust-web-dev "libstd-rust-web-$version"; do
            (cd "$scratch/debs" && apt-get download -qq "$package=$version.*" 2>/dev/null) ||
                fail "no Rust $version: neither rustup nor Debian's $package has it"
        done
        for package in "$scratch"/debs/*.deb; do dpkg-deb --extract "$package" "$scratch/rust"; done
        mkdir -p "$TOOLS"
        mv "$scratch/rust" "$folder"
    fi
    printf '%s\n' "$folder/usr/bin"
}

# Builds with the compiler of `rust-version`, in a copy of the sources. Two dependencies in Cargo.lock need a newer
# compiler, so the copy has their last versions that do not. Cargo.lock itself keeps the new versions,
# because the old `time` has RUSTSEC-2026-0009. scrapegate never parses the date format of that
# advisory, but scanners would report every build.
oldest_compiler() {
    need build
    local version tools copy=$scratch/oldest dependency
    version=$(oldest_version)
    tools=$(oldest_toolchain "$version")
    mkdir "$copy"
    cp -r Cargo.toml Cargo.lock src benches tests "$copy"
    for dependency in "${OLDEST_DEPENDENCIES[@]}"; do
        (cd "$copy" && cargo update --quiet "${dependency%@*}" --precise "${dependency#*@}")
    done
    # An unpacked compiler does not find its own library by itself.
    LD_LIBRARY_PATH=${tools%/bin}/lib/$(uname -m)-linux-gnu
    export LD_LIBRARY_PATH
    "$tools/rustc" --version
    RUSTC=$tools/rustc "$tools/cargo" check --locked --bins --manifest-path "$copy/Cargo.toml" \
        --target-dir "$TARGET/oldest-compiler"
    unset LD_LIBRARY_PATH
}
