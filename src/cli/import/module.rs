//! Converts one module to one section.

use std::{collections::HashSet, fmt, time::Duration};

use super::{node::Node, remarks::Remarks};

/// A section of `prometheus_exporters.ini`.
pub(super) struct Module {
    name: String,
    lines: Vec<(&'static str, String)>,
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[{}]\nenabled = True", self.name)?;
        self.lines.iter().try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

/// The TLS settings of a module. They apply only with `scheme: https`.
#[derive(Default)]
struct Tls {
    skip_verify: bool,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

/// The names of the password files, in lower case, because some file systems ignore case.
#[derive(Default)]
pub(super) struct PasswordFiles(HashSet<String>);

impl PasswordFiles {
    /// A unique name for the password file of `module`, valid on every file system.
    fn name(&mut self, module: &str) -> String {
        let kept = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let stem: String = module.chars().map(kept).collect();
        let mut name = format!("{stem}.password");
        let mut number = 1;
        while !self.0.insert(name.to_ascii_lowercase()) {
            number += 1;
            name = format!("{stem}-{number}.password");
        }
        name
    }
}

impl Module {
    /// Converts the module `name`, which is defined at `at`. Returns `None` if that is not
    /// possible.
    pub(super) fn read(
        name: &str,
        at: &Node,
        node: &Node,
        passwords: &mut PasswordFiles,
        remarks: &mut Remarks,
    ) -> Option<Self> {
        let mut remark = |node: &Node, message: String| {
            remarks.add(node, Some(name), message);
        };
        if name == "default" {
            let why =
                "skipped: in scrapegate, the section [default] sets defaults for all exporters";
            remark(at, why.to_owned());
            return None;
        }
        let mut lines = Vec::new();
        let (mut method, mut http) = (None, None);
        for (key, value) in node.entries() {
            match key.text().unwrap_or_default().as_str() {
                "method" => method = value.text(),
                "http" => http = Some(value),
                "timeout" => lines.extend(timeout(value, &mut remark)),
                other => {
                    let other_method = method.as_deref() == Some(other);
                    if !other_method {
                        remark(key, format!("`{other}` is not supported; ignored"));
                    }
                }
            }
        }
        match method.as_deref() {
            Some("http") => {}
            Some(other @ ("exec" | "file")) => {
                let instead = "use an exporter, for example node_exporter's textfile collector";
                remark(at, format!("skipped: method `{other}` is not supported; {instead}"));
                return None;
            }
            Some(other) => {
                remark(at, format!("skipped: unknown method `{other}`"));
                return None;
            }
            None => {
                remark(at, "skipped: `method` is missing".to_owned());
                return None;
            }
        }
        let mut password = || passwords.name(name);
        let mut all = self::http(http, &mut password, &mut remark);
        all.extend(lines);
        Some(Self { name: name.to_owned(), lines: all })
    }
}

/// Converts the keys of `http`, in the order in which the documentation lists scrapegate's keys.
fn http(
    node: Option<&Node>,
    password_file: &mut impl FnMut() -> String,
    remark: &mut impl FnMut(&Node, String),
) -> Vec<(&'static str, String)> {
    let (mut scheme, mut host, mut port, mut path) = (None, None, None, None);
    let (mut user, mut password, mut is_verified) = (None, None, true);
    let (mut tls, mut tls_node) = (Tls::default(), None);
    for (key, value) in node.map_or(&[][..], Node::entries) {
        let key_name = key.text().unwrap_or_default();
        if key_name.starts_with("tls_") {
            tls_node = Some(key);
        }
        match key_name.as_str() {
            "scheme" => scheme = value.text(),
            "address" => host = value.text(),
            "port" => port = value.text(),
            "path" => path = value.text(),
            "verify" => is_verified = is_true(value),
            "tls_insecure_skip_verify" => tls.skip_verify = is_true(value),
            "tls_ca_cert_file" => tls.ca = value.text(),
            "tls_cert_file" => tls.certificate = value.text(),
            "tls_key_file" => tls.key = value.text(),
            "basic_auth_username" => user = value.text().map(|user| (key, user)),
            "basic_auth_password" => password = Some(key),
            "headers" => {
                let why = "`headers` is not supported; scrapegate sends only its own headers";
                remark(key, why.to_owned());
            }
            other => remark(key, format!("`{other}` is not supported; ignored")),
        }
    }
    let scheme = scheme.unwrap_or_else(|| "http".to_owned());
    let is_https = scheme == "https";
    let mut lines = vec![("method", scheme)];
    lines.extend(host.map(|host| ("host", host)));
    lines.extend(port.map(|port| ("port", port)));
    lines.push(("path", absolute(path)));
    if !is_verified {
        // Without `verify`, exporter_exporter checks nothing. scrapegate always checks the framing
        // of HTTP.
        lines.push(("integrity", "transport".to_owned()));
    }
    match tls_node {
        Some(node) if !is_https => {
            remark(node, "`tls_…` is ignored with `scheme: http`".to_owned());
        }
        Some(node) => {
            if tls.skip_verify && tls.ca.is_some() {
                let why = "`tls_ca_cert_file` is ignored with `tls_insecure_skip_verify: true`";
                remark(node, why.to_owned());
                tls.ca = None;
            }
            lines.extend(tls.lines());
        }
        None => {}
    }
    match (user, password) {
        (Some((key, user)), _) => {
            let file = password_file();
            let at = password.unwrap_or(key);
            remark(
                at,
                format!("write the password to `{file}` next to the INI file, with mode 0600"),
            );
            lines.extend([("username", user), ("password-file", file)]);
        }
        (None, Some(key)) => {
            remark(key, "`basic_auth_password` is ignored without `basic_auth_username`".to_owned())
        }
        (None, None) => {}
    }
    lines
}

impl Tls {
    fn lines(self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { skip_verify, ca, certificate, key } = self;
        let skip_verify = skip_verify.then(|| "True".to_owned());
        let all = [
            ("ca-file", ca),
            ("cert-file", certificate),
            ("key-file", key),
            ("insecure-skip-verify", skip_verify),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

/// exporter_exporter defaults to `/metrics`, and adds a missing slash.
fn absolute(path: Option<String>) -> String {
    match path {
        None => "/metrics".to_owned(),
        Some(path) if path.is_empty() => "/metrics".to_owned(),
        Some(path) if path.starts_with('/') => path,
        Some(path) => format!("/{path}"),
    }
}

/// `timeout`, and an `interval` if the default interval is shorter than the timeout.
fn timeout(node: &Node, remark: &mut impl FnMut(&Node, String)) -> Vec<(&'static str, String)> {
    /// The default of `interval`.
    const INTERVAL: Duration = Duration::from_secs(15);
    let written = node.text().unwrap_or_default();
    match duration(&written) {
        // In exporter_exporter, zero means no timeout. Use the default.
        Some(Duration::ZERO) => Vec::new(),
        Some(timeout) => {
            if written.parse::<f64>().is_ok() {
                remark(
                    node,
                    format!(
                        "`timeout: {written}` has no unit; exporter_exporter reads nanoseconds. \
                         Check `timeout` in the section, in seconds"
                    ),
                );
            }
            let seconds = timeout.as_secs_f64().to_string();
            let interval = (timeout > INTERVAL).then(|| ("interval", seconds.clone()));
            interval.into_iter().chain([("timeout", seconds)]).collect()
        }
        None => {
            remark(node, format!("`timeout: {}` is not a duration", written.escape_debug()));
            Vec::new()
        }
    }
}

/// Parses a duration of Go, such as `1m30s`, `1.5s` or `500ms`. A bare number is in nanoseconds.
fn duration(text: &str) -> Option<Duration> {
    // Go's decoder truncates a fraction to an integer.
    if let Ok(nanoseconds) = text.parse::<f64>() {
        let is_possible = (0.0..9.2e18).contains(&nanoseconds);
        return is_possible.then_some(Duration::from_nanos(nanoseconds as u64));
    }
    let mut all = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let is_unit = |c: char| c.is_ascii_alphabetic();
        let (unit, after) = after.split_at(after.find(|c| !is_unit(c)).unwrap_or(after.len()));
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        all = all.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(all)
}

/// exporter_exporter reads YAML 1.1, in which `yes`, `on` and `y` are also true.
fn is_true(node: &Node) -> bool {
    node.text().is_some_and(|text| {
        matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "y")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_go() {
        for (text, milliseconds) in
            [("1s", 1000), ("1m30s", 90_000), ("1.5s", 1500), ("500ms", 500), ("1500000000", 1500)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "1x", "1s2", "-1s", "NaNs"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
