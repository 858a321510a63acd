//! One source file with all of its mutants in it.

use std::{cmp::Reverse, collections::HashMap, ops::Range};

use crate::{mutant::Mutant, sites::Site};

/// A file with a switch for each of its mutants.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) text: String,
    /// Where in `text` the code of each mutant is.
    pub(crate) code_of_mutants: Vec<(u32, Range<usize>)>,
    /// Where in `text` the switch of each mutant is: all alternatives.
    pub(crate) switches: Vec<(u32, Range<usize>)>,
}

/// The mutants of one site, with their numbers.
struct Place<'a> {
    site: &'a Site,
    mutants: Vec<(u32, &'a Mutant)>,
}

impl Place<'_> {
    /// The code that the switch takes the place of. It is empty if the switch only adds code.
    fn range(&self) -> Range<usize> {
        match self.site {
            Site::Choice(range) => range.clone(),
            Site::Guard(at) | Site::Entry(at) => *at..*at,
            Site::Alone => 0..0,
        }
    }
}

/// Puts the switches of `mutants` into `source`.
pub(crate) fn rewrite<'a>(
    source: &str,
    mutants: impl Iterator<Item = (u32, &'a Mutant, &'a Site)>,
) -> Rewritten {
    let mut places = HashMap::new();
    for (number, mutant, site) in mutants.filter(|(_, _, site)| **site != Site::Alone) {
        let place = places.entry(site).or_insert_with(|| Place { site, mutants: Vec::new() });
        place.mutants.push((number, mutant));
    }
    let mut places: Vec<Place<'_>> = places.into_values().collect();
    // From the outside to the inside. What only adds code comes before the code that is there.
    places.sort_by_key(|place| {
        let range = place.range();
        (range.start, !range.is_empty(), Reverse(range.end))
    });
    let mut rewritten = Rewritten::default();
    rewritten.copy(source, 0..source.len(), &places);
    rewritten
}

impl Rewritten {
    /// Copies a range of `source` that contains all of `places`.
    fn copy(&mut self, source: &str, range: Range<usize>, mut places: &[Place<'_>]) {
        let mut copied = range.start;
        while let [place, rest @ ..] = places {
            let at = place.range();
            let inside = rest.partition_point(|inner| inner.range().start < at.end);
            self.text.push_str(&source[copied..at.start]);
            self.switch(source, place, &rest[..inside]);
            copied = at.end;
            places = &rest[inside..];
        }
        self.text.push_str(&source[copied..range.end]);
    }

    fn switch(&mut self, source: &str, place: &Place<'_>, inside: &[Place<'_>]) {
        let start = self.text.len();
        match place.site {
            Site::Choice(range) => {
                let numbers: Vec<u32> = place.mutants.iter().map(|(number, _)| *number).collect();
                // The unchanged code comes first, so that errors about types are in the others.
                self.text
                    .push_str(&format!("(match crate::mutants::active(&{numbers:?}) {{ 0 => ("));
                self.copy(source, range.clone(), inside);
                self.text.push_str("),");
                for (index, (number, mutant)) in place.mutants.iter().enumerate() {
                    let changed = mutant.range(source);
                    let code = format!(
                        "{} {} {}",
                        &source[range.start..changed.start],
                        mutant.replacement,
                        &source[changed.end..range.end],
                    );
                    let is_last = index + 1 == numbers.len();
                    let pattern = if is_last { "_".to_owned() } else { number.to_string() };
                    self.text.push_str(&format!(" {pattern} => ("));
                    self.code(*number, &code);
                    self.text.push_str("),");
                }
                self.text.push_str(" })");
            }
            Site::Guard(_) => {
                for (number, _) in &place.mutants {
                    self.code(*number, &format!(" if !crate::mutants::is({number})"));
                }
            }
            Site::Entry(_) => {
                for (number, mutant) in &place.mutants {
                    self.text.push_str(&format!("if crate::mutants::is({number}) {{ return "));
                    self.code(*number, &mutant.replacement);
                    self.text.push_str("; } ");
                }
            }
            Site::Alone => {}
        }
        let switch = start..self.text.len();
        self.switches.extend(place.mutants.iter().map(|(number, _)| (*number, switch.clone())));
    }

    fn code(&mut self, mutant: u32, code: &str) {
        let start = self.text.len();
        self.text.push_str(code);
        self.code_of_mutants.push((mutant, start..self.text.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::sites;

    /// `source` with these mutants: genre, code, replacement.
    fn rewritten(source: &str, changes: &[(&str, &str, &str)]) -> Rewritten {
        let sites = sites(source).expect("Rust");
        let mutants: Vec<Mutant> =
            changes.iter().map(|change| Mutant::example(source, *change)).collect();
        let numbered = mutants.iter().zip(1..).map(|(mutant, number)| {
            (number, mutant, &sites[&(mutant.genre, mutant.range(source))])
        });
        rewrite(source, numbered)
    }

    #[test]
    fn all_mutants_of_an_expression_are_alternatives() {
        let changes = [("BinaryOperator", "<", "=="), ("BinaryOperator", "<", "<=")];
        assert_eq!(
            "fn f() { if (match crate::mutants::active(&[1, 2]) { 0 => (a < b), \
             1 => (a  ==  b), _ => (a  <=  b), }) {} }",
            rewritten("fn f() { if a < b {} }", &changes).text
        );
    }

    #[test]
    fn mutants_inside_others_stay_in_the_original_alternative() {
        let changes = [("BinaryOperator", "&&", "||"), ("UnaryOperator", "!", "")];
        assert_eq!(
            "fn f() { g((match crate::mutants::active(&[1]) { 0 => (a && \
             (match crate::mutants::active(&[2]) { 0 => (!b), _ => (  b), })), _ => (a  ||  !b), })) }",
            rewritten("fn f() { g(a && !b) }", &changes).text
        );
    }

    #[test]
    fn functions_return_early_and_arms_get_guards() {
        let changes = [
            ("FnValue", "match a { 1 => b, _ => c }", "None"),
            ("FnValue", "match a { 1 => b, _ => c }", "Some(7)"),
            ("MatchArm", "1 => b,", ""),
        ];
        assert_eq!(
            "fn f() { if crate::mutants::is(1) { return None; } if crate::mutants::is(2) { return Some(7); } \
             match a { 1 if !crate::mutants::is(3) => b, _ => c } }",
            rewritten("fn f() { match a { 1 => b, _ => c } }", &changes).text
        );
    }

    #[test]
    fn the_code_of_each_mutant_is_known() {
        let changes = [("UnaryOperator", "!", ""), ("BinaryOperator", "&&", "||")];
        let found = rewritten("fn f() { !a && b }", &changes);
        for (mutant, range) in &found.code_of_mutants {
            let code = ["  a", "!a  ||  b"][*mutant as usize - 1];
            assert_eq!(code, &found.text[range.clone()]);
        }
        assert_eq!(2, found.code_of_mutants.len());
    }
}
