# shellcheck shell=bash
# Steps that run scrapegate: as users start it, from the package, and under the benchmarks.

readonly SSLYZE=(sslyze==6.3.1)
readonly DEPLOYMENT_TOOLS=(ansible-core==2.19.14 kubernetes-validate==1.37.0)

demo_group=

clean_up() {
    [[ -z $demo_group ]] || kill -KILL -- "-$demo_group" 2>/dev/null || true
    rm -rf "$scratch"
}

demo_has_ended() { ! kill -0 "$demo_group" 2>/dev/null; }
demo_has_printed_curl_lines() { demo_has_ended || (($(curl_lines | wc -l) >= 3)); }
# Whole commands: a backslash continues one on the next line.
curl_lines() {
    sed -E ':join; /\\$/ { N; s/\\\n[[:space:]]*/ /; b join }' "$scratch/demo" |
        sed -nE 's/^[[:space:]]*(\$ )?(curl .*)$/\2/p'
}

# The demo as a new user runs it: start it, paste its curl lines, press Ctrl-C, find nothing left.
demo() {
    need build real
    release_build
    local line folder
    # In a process group of its own, so that SIGINT reaches cargo and the demo as Ctrl-C does.
    setsid env --default-signal=INT cargo run --locked --release -- demo --listen 127.0.0.1:0 \
        >"$scratch/demo" 2>&1 &
    demo_group=$!
    wait_for 60 demo_has_printed_curl_lines || { cat "$scratch/demo"; fail "no curl lines"; }
    cat "$scratch/demo"
    demo_has_ended && fail "the demo ended by itself"

    while IFS= read -r line; do
        printf '%s\n' "$line"
        # Without pipefail: a line may end in `| head`, which closes curl's pipe early.
        if (set +o pipefail && eval "$line") >"$scratch/answer" </dev/null; then
            [[ $line == *--cert\ * ]] || fail "it works without a client certificate"
            [[ -s $scratch/answer ]] || fail "it prints nothing"
        elif [[ $line == *--cert\ * ]]; then
            fail "it does not work"
        else
            echo '    refused without a client certificate, as expected'
        fi
        [[ ! -s $scratch/answer ]] || printf '    %d bytes: %s\n' "$(wc -c <"$scratch/answer")" \
            "$(head -c 60 "$scratch/answer" | head -n 1)"
    done < <(curl_lines)

    folder=$(sed -nE 's/.*--cacert[ =]([^ ]+).*/\1/p' "$scratch/demo" | head -n 1)
    folder=$(dirname "${folder//[\'\"]/}")
    [[ -d $folder ]] || fail "no folder with the demo's certificates"
    kill -INT -- "-$demo_group"
    wait_for 10 demo_has_ended || fail "Ctrl-C does not end the demo"
    demo_group=
    [[ ! -e $folder ]] || fail "the demo left $folder"
    echo "Ctrl-C ended the demo and removed $folder"
}

# Answers as systemctl does to Ansible. The hosts of the fleet example are folders here.
fake_systemctl() {
    mkdir "$1"
    cat >"$1/systemctl" <<'END'
#!/bin/sh
if [ "$1" = show ]; then printf 'LoadState=loaded\nActiveState=active\n'; else echo "$*" >>"$0.calls"; fi
END
    chmod +x "$1/systemctl"
}

# The manifest against the schemas of Kubernetes, and the playbook by Ansible, without its task that installs the package
# and for some of the hosts only. Each host is a folder. No cluster and no other host is contacted.
deployment_examples() {
    need build real
    release_build
    python_tools kubernetes-validate "${DEPLOYMENT_TOOLS[@]}"
    local fleet=packaging/examples/fleet folder=$scratch/fleet host tools
    tools=$(python_folder "${DEPLOYMENT_TOOLS[@]}")/bin
    local site=$folder/prometheus.example.org
    local -A expected=(
        [web-20.example.org]=node_exporter
        [db-01.example.org]='node_exporter,mysqld_exporter'
    )
    "$tools/kubernetes-validate" --strict packaging/kubernetes/*.yaml
    mkdir -p "$site"
    echo 'scrape_configs:' >"$site/prometheus.yml"
    fake_systemctl "$folder/bin"
    local -x PATH=$folder/bin:$TARGET/release:$PATH
    # The files that the package installs.
    for host in "${!expected[@]}"; do
        mkdir "$folder/$host"
        cp packaging/debian/*.ini "$folder/$host"
        scrapegate certs --out "$folder/$host/tls" --host localhost >/dev/null
    done
    cat >"$folder/variables.json" <<END
{
    "pki": "$folder/pki", "folder": "$folder/{{ inventory_hostname }}",
    "configuration": "$site/prometheus.yml",
    "owner": "$(id --user --name)", "group": "$(id --group --name)",
    "ansible_become": false, "ansible_python_interpreter": "$tools/python"
}
END
    "$tools/ansible-playbook" --inventory "$fleet/inventory.yml" --connection local --skip-tags package \
        --limit "$(IFS=,; echo "${!expected[*]}"),prometheus" --extra-vars "@$folder/variables.json" \
        "$fleet/playbook.yml"
    [[ $(sort "$folder/bin/systemctl.calls") == $'reload prometheus\nreload scrapegate\nreload scrapegate' ]] ||
        fail "the playbook does not reload each service once"
    for host in "${!expected[@]}"; do
        scrapegate check --config "$folder/$host/config.ini" | tee "$scratch/checked"
        [[ $(sed -nE 's/^([a-z_]+) +yes .*/\1/p' "$scratch/checked" | paste -sd,) == "${expected[$host]}" ]] ||
            fail "$host has other exporters"
        [[ $(grep -oE '[^"]+:3333' "$site/$host.json" | sort --unique) == "$host:3333" ]] ||
            fail "$host is not a target under its name"
        [[ $(find "$folder/$host/tls" -name '*.key' -printf '%f ') == 'server.key ' ]] ||
            fail "$host has keys of other hosts"
        openssl verify -CAfile "$site/ca.crt" -purpose sslserver -verify_hostname "$host" "$folder/$host/tls/server.crt"
        openssl verify -CAfile "$folder/$host/tls/ca.crt" -purpose sslclient "$site/client.crt"
        ! openssl verify -CAfile "$folder/$host/tls/ca.crt" -purpose sslclient "$folder/$host/tls/server.crt" \
            2>/dev/null || fail "$host could scrape the other hosts"
    done
}

# The pages as a reader's `man` and other systems' mandoc format them.
manual_pages() {
    local page problems
    for page in target/package/scrapegate.{1,ini.5}; do
        problems=$(MANWIDTH=80 man --warnings --local-file "$page" 2>&1 >/dev/null)
        # Lines of Markdown are longer than mandoc likes.
        problems+=$(mandoc -T lint "$page" | grep -v 'input text line longer than 80 bytes' || true)
        [[ -z $problems ]] || fail "$page: $problems"
    done
}

# Builds two versions of the package, and installs, upgrades, boots and removes them on this machine.
debian_package() {
    need build deb man
    release_build
    cargo_tool cargo-deb
    local -x PATH=$TOOLS/bin:$PATH
    packaging/deb --fast --no-dbgsym --strip --output "$scratch/older.deb" --deb-version 0.1.0-1
    packaging/deb --fast --output "$scratch/newer.deb" --deb-version 0.1.0-2
    manual_pages
    dpkg-deb --info "$scratch/newer.deb"
    # Not `grep -q`: it would end before dpkg-deb has written everything.
    dpkg-deb --contents "$scratch/newer-dbgsym.deb" | grep '/usr/lib/debug/.build-id/.*\.debug$' ||
        fail "no debug symbols"
    lintian --fail-on error,warning --tag-display-limit 0 "$scratch/newer.deb" "$scratch/newer-dbgsym.deb"
    as_root packaging/test-deb "$scratch/older.deb" "$scratch/newer.deb"
    as_root packaging/test-boot "$scratch/older.deb" "$scratch/newer.deb"
}

# The real Prometheus, exporters, browsers, curl, openssl and scanners of TLS servers.
real_counterparts() {
    need build real
    release_build
    python_tools sslyze "${SSLYZE[@]}"
    SCRAPEGATE_SSLYZE="$(python_folder "${SSLYZE[@]}")/bin/sslyze" \
    SCRAPEGATE_BIN="$TARGET/release/scrapegate" \
        cargo test --locked --release --features real-exporters --test real -- --show-output
}

# Tests with bounds on time or memory. These are the bounds of what users run; a debug build has looser
# ones.
release_bounds() {
    need build
    local names=(
        d04_if_a_scraper_leaves_during_the_body_the_exporters_connection_is_closed
        d05_if_a_scraper_leaves_before_the_response_the_exporters_connection_is_closed
        u22_a_million_chunks_of_one_byte_are_coalesced_and_cost_at_most_ten_times_one_chunk
        a_bundle_of_ten_thousand_certificates_is_read_in_time_and_clients_are_accepted
        an_idle_proxy_exits_at_once_with_0
        a_thousand_slow_readers_cost_bounded_memory_and_delay_nobody
        f01_an_unread_log_delays_neither_scrapes_nor_handshakes_nor_the_exit
        f05_a_known_scraper_is_answered_at_once_while_sixty_connections_guess_passwords
        f07_silent_connections_of_one_address_do_not_evict_handshakes_of_another
        f07_expensive_handshakes_of_one_address_do_not_delay_handshakes_of_another
        f26_a_scraper_that_leaves_after_many_pipelined_requests_is_noticed_and_none_reaches_the_exporter
        f27_connections_closed_at_once_do_not_lock_out_new_connections_of_another_address
    )
    # One at a time, because they measure time. With the feature of the real counterparts, so that
    # cargo does not build everything again. Some print what they measured.
    cargo test --locked --release --features real-exporters \
        --test exporters --test limits --test process --test slow_readers \
        -- --test-threads=1 --show-output "${names[@]}" 2>&1 | tee "$scratch/bounds"
    (($(grep -c '^test .* ok$' "$scratch/bounds") == ${#names[@]})) || fail "a test was renamed"
}

# The counts of benches/gates.json: instructions, allocations, system calls and more.
count_gates() {
    need build gates
    cargo bench --locked --bench gates -- --require-all
}

overload() {
    need build
    cargo bench --locked --bench overload -- --seconds "$OVERLOAD_SECONDS"
}

soak() {
    need build
    cargo bench --locked --bench soak -- --seconds "$SOAK_SECONDS"
}

# Runs each benchmark once, to see that it works. Times from a shared machine are not worth keeping.
criterion_smoke() {
    need build link
    cargo bench --locked --bench relay --bench first_byte --bench handshake --bench parsers --bench readers \
        -- --test
    # Against the floor only: the other proxies are not installed here.
    cargo bench --locked --bench peers -- --rounds 1 --peers scrapegate,floor \
        --workloads small-kept,start
    cargo bench --locked --bench link -- --rounds 1 --rate 100 --size 2 --scrapers 1 \
        --columns 'scrapegate off,scrapegate gzip,scrapegate zstd'
}

# Side by side with the other proxies. The reports are $TARGET/peers.json and $TARGET/link.json.
peers() {
    need build peers
    cargo bench --locked --bench peers -- --json "$TARGET/peers.json"
    cargo bench --locked --bench link -- --json "$TARGET/link.json"
}

tests() {
    need build
    cargo test --locked 2>&1 | tee "$scratch/tests"
}

# Seconds, once built: the unit tests, and the tests that read the sources and the docs.
unit() {
    need build
    cargo test --locked --lib --test cases --test docs --test examples --test layers --test links --test package \
        --test readme --test waits --test words
}
