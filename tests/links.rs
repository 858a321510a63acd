//! Every relative link in every Markdown file has a target, on a forge and in the book: a file and, if
//! the link has an anchor, a heading. The book contains every page of `docs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use scrapegate_harness::documents::{self, root};

/// A Markdown file.
#[derive(Default)]
struct Document {
    /// Targets of links and images.
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut heading = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
                document.links.push(dest_url.into_string());
            } else if matches!(event, Event::Start(Tag::Heading { .. })) {
                heading = Some(String::new());
            } else if matches!(event, Event::End(TagEnd::Heading(_))) {
                document.add_anchor(&heading.take().unwrap_or_default());
            } else if let (Event::Text(text) | Event::Code(text), Some(heading)) =
                (event, &mut heading)
            {
                heading.push_str(&text);
            }
        }
        document
    }

    /// Numbers a second heading with the same text, as mdBook and the forges do.
    fn add_anchor(&mut self, heading: &str) {
        let anchor = anchor(heading);
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut names = std::iter::once(anchor.clone()).chain(numbered);
        let free = names.find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

/// The anchor of a heading. mdBook and the forges agree about letters, digits, `-`, `_` and spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn documents() -> BTreeMap<PathBuf, Document> {
    let parsed = documents::documents()
        .into_iter()
        .map(|(name, text)| (name.into(), Document::parse(&text)));
    parsed.collect()
}

/// `link` as a path from the root, without its anchor; `None` if it leads above the root.
fn resolve(document: &Path, link: &str) -> Option<PathBuf> {
    let path = link.split('#').next().unwrap_or_default();
    if path.is_empty() {
        return Some(document.to_owned());
    }
    let mut resolved = document.parent()?.to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => resolved.pop().then_some(())?,
            Component::Normal(name) => resolved.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved)
}

/// All relative links: the document, the link, and its target.
fn relative_links(documents: &BTreeMap<PathBuf, Document>) -> Vec<(&Path, &str, PathBuf)> {
    let mut found = Vec::new();
    for (path, document) in documents {
        let relative = document.links.iter().filter(|link| !link.contains("://"));
        for link in relative.filter(|link| !link.starts_with("mailto:")) {
            let target = resolve(path, link)
                .unwrap_or_else(|| panic!("{}: {link} is not relative", path.display()));
            found.push((&**path, &**link, target));
        }
    }
    found
}

#[test]
fn every_relative_link_has_a_file_and_every_anchor_a_heading() {
    let documents = documents();
    let links = relative_links(&documents);
    assert!(links.len() > 60, "{} links", links.len());
    let mut dead = Vec::new();
    for (document, link, target) in links {
        let anchor = link.split_once('#').map(|(_, anchor)| anchor);
        let leads_somewhere = match anchor {
            Some(anchor) => documents.get(&target).is_some_and(|it| it.anchors.contains(anchor)),
            None => root().join(&target).exists(),
        };
        if !leads_somewhere {
            dead.push(format!("{}: {link}", document.display()));
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

/// mdBook does not rewrite links to files outside the book, so they would be dead in its HTML.
#[test]
fn links_of_the_book_stay_in_the_book() {
    let documents = documents();
    let leaving: Vec<_> = relative_links(&documents)
        .into_iter()
        .filter(|(document, _, target)| document.starts_with("docs") && !target.starts_with("docs"))
        .collect();
    assert!(leaving.is_empty(), "{leaving:?}");
}

#[test]
fn the_summary_has_every_page_once() {
    let documents = documents();
    let summary = Path::new("docs/SUMMARY.md");
    let mut listed: Vec<_> = relative_links(&documents)
        .into_iter()
        .filter(|(document, _, _)| *document == summary)
        .map(|(_, _, target)| target)
        .collect();
    listed.sort();
    let is_page = |path: &&PathBuf| path.starts_with("docs") && *path != summary;
    let pages: Vec<_> = documents.keys().filter(is_page).cloned().collect();
    assert_eq!(listed, pages);
}

/// The package does not contain the development pages, so its other pages must not link to them.
#[test]
fn links_of_the_packaged_pages_lead_to_packaged_pages() {
    let manifest = documents::manifest();
    let assets = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"docs/"));
    let folders: BTreeSet<PathBuf> = assets
        .filter_map(|asset| asset.split('"').next())
        .filter_map(|pattern| Path::new("docs").join(pattern).parent().map(Path::to_owned))
        .collect();
    assert!(folders.len() > 3, "{folders:?}");
    let is_packaged = |path: &Path| path.parent().is_some_and(|folder| folders.contains(folder));
    let documents = documents();
    let leaving: Vec<_> = relative_links(&documents)
        .into_iter()
        .filter(|(document, _, target)| {
            is_packaged(document) && !document.ends_with("SUMMARY.md") && !is_packaged(target)
        })
        .collect();
    assert!(leaving.is_empty(), "{leaving:?}");
}

#[test]
fn anchors_match_those_of_mdbook_and_the_forges() {
    let document = Document::parse(
        "# `[proxy]`\n\n## Aborted scrapes\n\n## Aborted scrapes\n\n### The user's `max-body`: why?\n",
    );
    let expected = ["proxy", "aborted-scrapes", "aborted-scrapes-1", "the-users-max-body-why"];
    assert_eq!(document.anchors, expected.map(str::to_owned).into());
}
