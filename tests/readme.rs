//! The README is short, and names the versions of the manifest.

use std::{fs, path::Path};

fn repository(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn the_readme_is_short() {
    let lines = repository("README.md").lines().count();
    assert!(lines <= 220, "{lines} lines; move details to docs");
}

#[test]
fn the_docs_name_the_oldest_rust_that_the_manifest_names() {
    let expected = format!("{} ", env!("CARGO_PKG_RUST_VERSION"));
    for document in ["README.md", "docs/guide/installation.md"] {
        let text = repository(document);
        let named: Vec<_> = text.split("Rust 1.").skip(1).collect();
        assert!(!named.is_empty(), "{document} names no version");
        for rest in named {
            assert!(format!("1.{rest}").starts_with(&expected), "{document}: not {expected}");
        }
    }
}

#[test]
fn the_docs_name_the_package_of_this_version() {
    let expected = format!("{}-1_amd64.deb", env!("CARGO_PKG_VERSION"));
    for document in ["README.md", "docs/guide/installation.md", "docs/guide/upgrade.md"] {
        let text = repository(document);
        // `scrapegate_VERSION` stands for any version.
        let named = text.split("scrapegate_").skip(1).filter(|it| !it.starts_with("VERSION"));
        let named: Vec<_> = named.collect();
        assert!(!named.is_empty(), "{document} names no package");
        for rest in named {
            assert!(rest.starts_with(&expected), "{document}: not {expected}");
        }
    }
}
