//! A YAML document as exporter_exporter reads it. Keys are strings in their original spelling, and
//! merge keys are expanded.

use std::collections::HashSet;

use saphyr::{MarkedYaml, YamlData};

/// A node with its line.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Line number, from 1.
    pub(super) line: usize,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    /// A scalar in its original spelling, so that `1.0` stays `1.0`. `None` for null.
    Scalar(Option<String>),
    List,
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// Converts `yaml`, which was parsed from `source`.
    pub(super) fn new(yaml: &MarkedYaml<'_>, source: &Source) -> Self {
        let data = match &yaml.data {
            YamlData::Mapping(_) => Data::Mapping(entries(yaml, source)),
            YamlData::Sequence(_) => Data::List,
            YamlData::Tagged(_, inner) => return Self::new(inner, source),
            YamlData::Value(value) if value.is_null() => Data::Scalar(None),
            YamlData::Value(_)
            | YamlData::Representation(..)
            | YamlData::Alias(_)
            | YamlData::BadValue => Data::Scalar(Some(source.text(yaml))),
        };
        Self { line: yaml.span.start.line(), data }
    }

    /// The text of a scalar, on one line, as INI files require.
    pub(super) fn text(&self) -> Option<String> {
        match &self.data {
            Data::Scalar(Some(text)) => Some(text.replace(['\r', '\n'], " ").trim().to_owned()),
            Data::Scalar(None) | Data::List | Data::Mapping(_) => None,
        }
    }

    /// Keys and values of a mapping, in file order. Empty for any other node.
    pub(super) fn entries(&self) -> &[(Self, Self)] {
        match &self.data {
            Data::Mapping(entries) => entries,
            Data::Scalar(_) | Data::List => &[],
        }
    }

    /// Whether it is a mapping with this key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries().iter().any(|(key, _)| key.text().as_deref() == Some(name))
    }
}

/// The entries of a mapping, then those of its merge keys. For a key that occurs several times, the
/// first entry wins (<https://yaml.org/type/merge.html>).
fn entries(yaml: &MarkedYaml<'_>, source: &Source) -> Vec<(Node, Node)> {
    let mut entries = Vec::new();
    let mut merged = Vec::new();
    for (key, value) in yaml.data.as_mapping().into_iter().flatten() {
        if key.data.as_str() == Some("<<") {
            match value.data.as_sequence() {
                Some(all) => all.iter().for_each(|it| merged.extend(self::entries(it, source))),
                None => merged.extend(self::entries(value, source)),
            }
        } else {
            entries.push((Node::named(key, source), Node::new(value, source)));
        }
    }
    let mut names: HashSet<_> = entries.iter().map(|(key, _)| key.text()).collect();
    merged.retain(|(key, _)| names.insert(key.text()));
    entries.append(&mut merged);
    entries
}

impl Node {
    /// A key. Always a string, even if it looks like another type, such as null.
    fn named(yaml: &MarkedYaml<'_>, source: &Source) -> Self {
        Self { line: yaml.span.start.line(), data: Data::Scalar(Some(source.text(yaml))) }
    }
}

/// The text of the file as characters, because the parser's positions count characters.
pub(super) struct Source(Vec<char>);

impl Source {
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// The value of a string, or the original spelling of any other scalar.
    fn text(&self, yaml: &MarkedYaml<'_>) -> String {
        if let Some(text) = yaml.data.as_str() {
            return text.to_owned();
        }
        let written = self.0.get(yaml.span.start.index()..yaml.span.end.index());
        written.unwrap_or_default().iter().collect::<String>().trim().to_owned()
    }
}
