# shellcheck shell=bash
# The fuzz targets. fuzz/README.md says what they assert.

# The fuzz crate is a workspace of its own, so the steps for the main crate do not cover it.
fuzz_crate() {
    need build
    local manifest=(--manifest-path fuzz/Cargo.toml)
    cargo fmt "${manifest[@]}" --check
    cargo clippy "${manifest[@]}" --target-dir "$TARGET" --locked --all-targets -- -D warnings
    cargo test "${manifest[@]}" --target-dir "$TARGET" --locked 2>&1 | tee "$scratch/fuzz-tests"
}

# RUSTC_BOOTSTRAP lets a stable compiler accept the unstable flags of cargo-fuzz.
fuzz_build() {
    need build
    cargo_tool cargo-fuzz
    RUSTC_BOOTSTRAP=1 "$TOOLS/bin/cargo-fuzz" build --target-dir fuzz/target
}

# fuzz_one TARGET: fuzzes one target from its seeds, its regressions and the corpus. Inputs for which
# the property does not hold go to fuzz/artifacts.
fuzz_one() {
    local name=$1 inputs=("${FUZZ_CORPUS:-$scratch/corpus}/$1" "fuzz/seeds/$1") triple input
    triple=$(rustc -vV | sed -n 's/^host: //p')
    [[ ! -d fuzz/regressions/$name ]] || inputs+=("fuzz/regressions/$name")
    mkdir -p "${inputs[0]}" "fuzz/artifacts/$name"
    if "fuzz/target/$triple/release/$name" -seed="$FUZZ_SEED" -max_total_time="$FUZZ_SECONDS" -timeout=10 \
        -rss_limit_mb=2048 -dict="fuzz/dictionaries/$name.dict" \
        -artifact_prefix="fuzz/artifacts/$name/" "${inputs[@]}" 2>"$scratch/$name.log"; then
        printf '%-20s %s\n' "$name" "$(tail -n 1 "$scratch/$name.log")"
    else
        tail -n 60 "$scratch/$name.log"
        input=$(sed -n 's/.*Test unit written to //p' "$scratch/$name.log" | tail -n 1)
        printf 'the property of %s does not hold; to reproduce: RUSTC_BOOTSTRAP=1 cargo fuzz run %s %s\n' \
            "$name" "$name" "$input"
        # The machine of a CI run may be gone before anyone can copy the file.
        [[ ! -f $input ]] || { echo 'the input in base64:'; base64 "$input"; }
        return 1
    fi
}

# fuzz [TARGET...]: fuzzes these targets, or all, two at a time: some machines have only two cores.
fuzz() {
    local targets=("$@") running name pair failed=0
    (($# > 0)) || mapfile -t targets < <(basename --suffix=.rs fuzz/fuzz_targets/*.rs)
    fuzz_build
    echo "seed $FUZZ_SEED, $FUZZ_SECONDS s for each target"
    for ((pair = 0; pair < ${#targets[@]}; pair += 2)); do
        running=()
        for name in "${targets[@]:pair:2}"; do
            fuzz_one "$name" &
            running+=($!)
        done
        for name in "${running[@]}"; do wait "$name" || failed=1; done
    done
    ((failed == 0)) || fail "fuzzing found inputs for which a property does not hold"
}
