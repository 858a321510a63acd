//! The status page over HTTP. Unit tests of the page check its contents.

use scrapegate_harness::{body::Body, exporter::Framing};

use crate::setup::Setup;

fn setup(keys: &str) -> Setup {
    Setup::new(keys, &[("x", "")], |it| {
        it.read_request()?;
        it.answer("", Framing::ContentLength, Body::text(100))
    })
}

#[test]
fn the_page_is_html_that_must_not_load_anything() {
    let setup = setup("");
    let mut client = setup.connect();
    let page = client.get("/");
    assert_eq!(page.head.status, 200);
    assert_eq!(page.head.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.head.header("cache-control"), Some("no-store"));
    let policy = page.head.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let html = page.body.text();
    assert!(html.contains("1 exporter: 1 not scraped yet"), "{html}");
    assert!(html.contains("server.pem"), "{html}");
    for foreign in ["<script", "<link", "<img", "src=", "style=", "@import", "url("] {
        assert!(!html.contains(foreign), "{foreign} in {html}");
    }
}

#[test]
fn with_status_page_off_the_path_is_404() {
    let setup = setup("status-page = False\n");
    assert_eq!(setup.connect().get("/").head.status, 404);
}
