//! Which metric families of an exporter are passed on: `metrics-keep` and `metrics-drop`.

use std::{collections::HashSet, fmt, sync::Arc};

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::{
    Anchored,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start, syntax},
};

/// Limit for the size of a compiled expression, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Limit for the memory in which an expression caches its states while it searches, in bytes. Each
/// worker thread that searches has such a cache.
const MAX_CACHE: usize = 256 << 10;

/// Limit for the number of pairs of states that [`FamilyRules::keeps_nothing`] visits.
const MAX_VISITED: usize = 20_000;

/// A regular expression over the names of metric families. It must match the whole name, as in
/// Prometheus' relabeling.
#[derive(Clone)]
pub struct FamilyPattern {
    source: Arc<str>,
    /// Shared, because a clone of a `Regex` begins with an empty cache.
    regex: Arc<Regex>,
}

impl FamilyPattern {
    /// Compiles an expression in the syntax of the crate `regex`.
    ///
    /// # Errors
    ///
    /// What is wrong with the expression, in one line.
    pub fn new(source: &str) -> Result<Self, String> {
        // First by itself, so that `a)|(b` is an error, and so that the message shows the expression
        // as it was written.
        compile(source).map_err(|error| one_line(&error))?;
        let regex = compile(&anchored(source)).map_err(|error| one_line(&error))?;
        Ok(Self { source: source.into(), regex: Arc::new(regex) })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the expression matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.regex.is_match(name)
    }
}

impl fmt::Debug for FamilyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FamilyPattern").field(&self.source).finish()
    }
}

fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).size_limit(MAX_SIZE).dfa_size_limit(MAX_CACHE).build()
}

/// `.` matches a line feed too, as in Prometheus 3.
fn anchored(expression: &str) -> String {
    format!("^(?s:{expression})$")
}

/// The crate explains a syntax error in several lines. The last one has the reason.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Which metric families are passed on: those that match `metrics-keep`, if there is one, and do
/// not match `metrics-drop`.
#[derive(Clone, Debug)]
pub struct FamilyRules {
    keep: Option<FamilyPattern>,
    drop: Option<FamilyPattern>,
}

impl FamilyRules {
    /// The rules of an exporter, if it has one of the two keys.
    #[must_use]
    pub fn new(keep: Option<FamilyPattern>, drop: Option<FamilyPattern>) -> Option<Self> {
        (keep.is_some() || drop.is_some()).then_some(Self { keep, drop })
    }

    /// `metrics-keep`.
    #[must_use]
    pub fn keep(&self) -> Option<&FamilyPattern> {
        self.keep.as_ref()
    }

    /// `metrics-drop`.
    #[must_use]
    pub fn drop(&self) -> Option<&FamilyPattern> {
        self.drop.as_ref()
    }

    /// Whether the family with this name is passed on. The name is without quotes and escapes.
    #[must_use]
    pub fn passes(&self, name: &[u8]) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.matches(name))
            && !self.drop.as_ref().is_some_and(|drop| drop.matches(name))
    }

    /// Whether no name at all is passed on, for example with `metrics-drop = .*`.
    ///
    /// Compares the two expressions as automata. Returns false if they are too large for that.
    #[must_use]
    pub fn keeps_nothing(&self) -> bool {
        if self.keeps_a_guess() {
            return false;
        }
        let keep = self.keep.as_ref().map_or(".*", |keep| keep.as_str());
        let drop = self.drop.as_ref().map(|drop| automaton(drop.as_str()));
        match (automaton(keep), drop) {
            (Some(keep), Some(Some(drop))) => is_empty(&keep, Some(&drop)),
            (Some(keep), None) => is_empty(&keep, None),
            (None, _) | (_, Some(None)) => false,
        }
    }
}

impl FamilyRules {
    /// Whether a name that is easy to guess is passed on. This saves the automata of almost all
    /// rules, which take milliseconds.
    fn keeps_a_guess(&self) -> bool {
        let is_of_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let keep = self.keep.as_ref().map_or("", |keep| keep.as_str());
        let guesses = keep.split('|').map(|part| part.chars().filter(is_of_name).collect());
        let guesses = guesses.chain(["a".to_owned(), "-".to_owned()]);
        guesses
            .filter(|guess: &String| !guess.is_empty())
            .any(|guess| self.passes(guess.as_bytes()))
    }
}

type Dfa = dense::DFA<Vec<u32>>;

fn automaton(expression: &str) -> Option<Dfa> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(MAX_SIZE))
        .determinize_size_limit(Some(MAX_SIZE));
    dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().utf8(false))
        .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_SIZE)))
        .build(&anchored(expression))
        .ok()
}

/// Whether each name that `keep` matches is also matched by `drop`. The empty string is not a name.
fn is_empty(keep: &Dfa, drop: Option<&Dfa>) -> bool {
    let start = start::Config::new().anchored(Anchored::Yes);
    let Ok(first) = keep.start_state(&start) else { return false };
    let first_drop = drop.and_then(|drop| drop.start_state(&start).ok());
    let mut visited: HashSet<(StateID, Option<StateID>)> = HashSet::new();
    let mut waiting = vec![(first, first_drop)];
    while let Some((kept, dropped)) = waiting.pop() {
        for byte in 0..=u8::MAX {
            let kept = keep.next_state(kept, byte);
            if keep.is_dead_state(kept) {
                continue;
            }
            let dropped = drop.zip(dropped).map(|(drop, state)| drop.next_state(state, byte));
            if !visited.insert((kept, dropped)) {
                continue;
            }
            let is_dropped = drop
                .zip(dropped)
                .is_some_and(|(drop, state)| drop.is_match_state(drop.next_eoi_state(state)));
            let is_kept = keep.is_match_state(keep.next_eoi_state(kept)) && !is_dropped;
            if is_kept || visited.len() > MAX_VISITED {
                return false;
            }
            waiting.push((kept, dropped));
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn rules(keep: &str, drop: &str) -> FamilyRules {
        let pattern =
            |source: &str| (!source.is_empty()).then(|| FamilyPattern::new(source).unwrap());
        FamilyRules::new(pattern(keep), pattern(drop)).unwrap()
    }

    #[test]
    fn a_family_passes_if_keep_matches_and_drop_does_not() {
        for (keep, drop, passed, stopped) in [
            ("", "go_.*", "node_load1", "go_threads"),
            ("node_.*", "", "node_load1", "go_threads"),
            ("node_.*", "node_cpu.*", "node_load1", "node_cpu_seconds_total"),
            ("a|b", "", "b", "ab"),
            ("", "a|b", "ab", "a"),
        ] {
            let rules = rules(keep, drop);
            assert!(rules.passes(passed.as_bytes()), "{keep} {drop} {passed}");
            assert!(!rules.passes(stopped.as_bytes()), "{keep} {drop} {stopped}");
        }
        assert!(FamilyRules::new(None, None).is_none());
    }

    #[test]
    fn an_expression_must_match_the_whole_name() {
        let pattern = FamilyPattern::new("up").unwrap();
        assert!(pattern.matches(b"up"));
        for other in ["ups", "sup", "up\n", ""] {
            assert!(!pattern.matches(other.as_bytes()), "{other:?}");
        }
        assert!(FamilyPattern::new(".*").unwrap().matches(b"a\nb"));
        assert!(FamilyPattern::new("größe.*").unwrap().matches("größe.℃".as_bytes()));
    }

    #[test]
    fn an_expression_that_does_not_compile_is_explained_in_one_line() {
        for (source, reason) in [
            ("(a", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("[z-a]", "invalid character class range"),
            ("(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
            ("(?x) a # b", "unclosed group"),
            (r"\w{1000}{1000}", "Compiled regex exceeds size limit of 1048576 bytes."),
        ] {
            let message = FamilyPattern::new(source).unwrap_err();
            assert!(message.contains(reason), "{source}: {message}");
            assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn rules_that_keep_nothing_are_found() {
        for (keep, drop) in [
            ("", ".*"),
            ("", ".+"),
            ("", "a.*|[^a].*"),
            ("node_.*", "n.*"),
            ("go_threads", "go_(info|threads)"),
            ("a^", ""),
            ("(?:)", ""),
            ("[a&&b]", ""),
        ] {
            assert!(rules(keep, drop).keeps_nothing(), "{keep} {drop}");
        }
    }

    #[test]
    fn rules_that_keep_a_name_are_not_accused() {
        for (keep, drop) in [
            ("", "go_.*"),
            ("", "[a-zA-Z_:].*"),
            ("", "[^z].*"),
            ("node_.*", "node_.+"),
            (".*", "a"),
            ("node_.*", "node_cpu.*|node_disk.*"),
            ("", r"\w*"),
        ] {
            assert!(!rules(keep, drop).keeps_nothing(), "{keep} {drop}");
        }
    }
}
