//! Replays every seed, and every input that failed in the past, through its property.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use scrapegate_fuzz::{
    client_certificate, compression, config_ini, exporters_ini, filter, pem, query, relay, request,
    scrape_timeout, transform,
};

/// Runs `check` with all files in both folders of `target`.
fn replay(target: &str, check: fn(&[u8])) {
    let mut failed = Vec::new();
    let mut seeds = 0;
    for kind in ["seeds", "regressions"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
        // A target that never failed has no folder of regressions.
        for file in fs::read_dir(&folder).into_iter().flatten() {
            let file = file.expect("an entry").path();
            let input = fs::read(&file).expect("readable");
            seeds += usize::from(kind == "seeds");
            if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(seeds > 4, "only {seeds} seeds");
}

#[test]
fn the_inputs_of_client_certificate_hold() {
    replay("client_certificate", client_certificate::check);
}

#[test]
fn the_inputs_of_compression_hold() {
    replay("compression", compression::check);
}

#[test]
fn the_inputs_of_config_ini_hold() {
    replay("config_ini", config_ini::check);
}

#[test]
fn the_inputs_of_exporters_ini_hold() {
    replay("exporters_ini", exporters_ini::check);
}

#[test]
fn the_inputs_of_filter_hold() {
    replay("filter", filter::check);
}

#[test]
fn the_inputs_of_pem_hold() {
    replay("pem", pem::check);
}

#[test]
fn the_inputs_of_query_hold() {
    replay("query", query::check);
}

#[test]
fn the_inputs_of_relay_hold() {
    replay("relay", relay::check);
}

#[test]
fn the_inputs_of_request_hold() {
    replay("request", request::check);
}

#[test]
fn the_inputs_of_scrape_timeout_hold() {
    replay("scrape_timeout", scrape_timeout::check);
}

#[test]
fn the_inputs_of_transform_hold() {
    replay("transform", transform::check);
}
