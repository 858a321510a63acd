//! The changes of the files, and whether each change takes effect.

use std::{
    fmt, io,
    sync::Arc,
    thread::{self, Scope},
    time::{Duration, Instant},
};

use scrapegate_harness::trial::{span::Span, tally::Tally};

use crate::site::{Looks, Site};

const PERIOD: Duration = Duration::from_secs(10);

/// The time within which a change must take effect.
const SHOWS: Duration = Duration::from_secs(5);

/// Makes one change after another. The counted time ends when the change has taken effect.
pub(crate) fn make<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    site: &'env Site,
    span: &'env Span,
) -> Arc<Tally> {
    let tally = Tally::new("changes of the files");
    let counted = Arc::clone(&tally);
    scope.spawn(move || {
        for (number, due) in span.beat(PERIOD).enumerate() {
            let change = &CHANGES[number % CHANGES.len()];
            counted.count(span, due, change(site, number));
        }
    });
    tally
}

type Change = fn(&Site, usize) -> io::Result<()>;

const CHANGES: &[Change] =
    &[by_signal, by_contents, by_request, with_mistakes, another_certificate, another_list];

fn by_signal(site: &Site, number: usize) -> io::Result<()> {
    add_exporter(site, number)?;
    site.proxy.signal("HUP");
    until("the new exporter", || is_listed(site, number))
}

/// Reading the files without a request is only enabled here. Otherwise it would hide a lost signal.
fn by_contents(site: &Site, number: usize) -> io::Result<()> {
    site.have_it_look(Looks::Often)?;
    expect(&post(site)?, &200)?;
    add_exporter(site, number)?;
    let shown = until("the new exporter", || is_listed(site, number));
    site.have_it_look(Looks::Never)?;
    expect(&post(site)?, &200)?;
    shown
}

fn by_request(site: &Site, number: usize) -> io::Result<()> {
    add_exporter(site, number)?;
    expect(&post(site)?, &200)?;
    expect(&is_listed(site, number)?, &true)
}

/// The files have a mistake. The current configuration must stay in use. The next change repairs
/// the file.
fn with_mistakes(site: &Site, number: usize) -> io::Result<()> {
    site.list_exporters("\n[broken]\nenabled = True\nprot = 1\n")?;
    expect(&post(site)?, &500)?;
    expect(&is_listed(site, number - 1)?, &true)
}

fn another_certificate(site: &Site, number: usize) -> io::Result<()> {
    add_exporter(site, number)?;
    let shown = |site: &Site| {
        let client = site.connect()?;
        let chain = client.tls().peer_certificates().map(<[_]>::to_vec);
        chain.ok_or_else(|| io::Error::other("no certificate"))
    };
    let before = shown(site)?;
    site.pki.replace_server(-1..365);
    site.proxy.signal("HUP");
    until("the new certificate", || Ok(shown(site)? != before))
}

/// Revokes a certificate, then removes the revocation.
fn another_list(site: &Site, _: usize) -> io::Result<()> {
    for (is_revoked, expected) in [(true, None), (false, Some(200))] {
        site.revoke(is_revoked)?;
        site.proxy.signal("HUP");
        // A connection that is open when the list is loaded ends without an answer. The next one
        // shows the result.
        until("the new revocation list", || {
            Ok(site.status_for_revocable().is_ok_and(|status| status == expected))
        })?;
    }
    Ok(())
}

/// Replaces the previous additional exporter by the one with this number.
fn add_exporter(site: &Site, number: usize) -> io::Result<()> {
    site.list_exporters(&format!(
        "\n[{}]\nenabled = True\nport = 1\npath = /metrics\n",
        name(number)
    ))
}

fn name(number: usize) -> String {
    format!("new_{number}")
}

/// Whether this exporter is listed and the previous one is not.
fn is_listed(site: &Site, number: usize) -> io::Result<bool> {
    let mut client = site.connect()?;
    client.send_get("/prometheus")?;
    let list = client.read_response()?.body.text();
    let has = |number: usize| list.contains(&format!("\"{}\"", name(number)));
    Ok(has(number) && !number.checked_sub(1).is_some_and(has))
}

fn post(site: &Site) -> io::Result<u16> {
    let mut client = site.connect()?;
    client.send("POST /-/reload HTTP/1.1\r\nHost: h\r\n\r\n")?;
    client.read_response().map(|response| response.head.status)
}

fn expect<T: fmt::Debug + PartialEq>(is: &T, expected: &T) -> io::Result<()> {
    if is == expected { Ok(()) } else { Err(io::Error::other(format!("{is:?}, not {expected:?}"))) }
}

fn until(what: &str, mut shows: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    while !shows()? {
        if begun.elapsed() > SHOWS {
            return Err(io::Error::other(format!("{what} did not take effect")));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
