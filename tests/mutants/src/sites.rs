//! Where in a file the switch of a mutant can be.

use std::{collections::HashMap, ops::Range};

use syn::{
    Arm, Block, Expr, File, Member, Pat, ReturnType, Signature, TypeImplTrait,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::mutant::Genre;

/// How to switch a mutant on and off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Site {
    /// The expression in this range appears once unchanged, and once for each mutant.
    Choice(Range<usize>),
    /// A guard at this place, behind the pattern of an arm.
    Guard(usize),
    /// A `return` at this place, in front of the body of a function.
    Entry(usize),
    /// The switch cannot express this mutant, so it has a build of its own.
    Alone,
}

/// The sites of a file, by the genre and the range of the mutants.
pub(crate) type Sites = HashMap<(Genre, Range<usize>), Site>;

/// All sites of `source`.
///
/// # Errors
/// If `source` is not Rust.
pub(crate) fn sites(source: &str) -> syn::Result<Sites> {
    let file: File = syn::parse_str(source)?;
    let mut finder = Finder::default();
    finder.visit_file(&file);
    Ok(finder.sites)
}

#[derive(Default)]
struct Finder {
    sites: Sites,
    /// Whether the compiler evaluates the code here. The switch reads the environment, so it cannot
    /// be there.
    in_constant: bool,
    /// The outermost binary expression whose direct operand comes next. A mutant is a change of the
    /// text: with another operator, the expressions around it may group their operands differently. So
    /// the whole expression is repeated.
    outermost: Option<Range<usize>>,
}

impl Finder {
    fn add(&mut self, genre: Genre, mutant: Range<usize>, site: Site) {
        let site = if self.in_constant { Site::Alone } else { site };
        self.sites.insert((genre, mutant), site);
    }

    fn within(&mut self, constant: bool, visit: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.in_constant, constant);
        visit(self);
        self.in_constant = before;
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let (Some(first), Some(last)) = (body.stmts.first(), body.stmts.last()) else { return };
        let start = first.span().byte_range().start;
        let range = start..last.span().byte_range().end;
        // All values that a function with `impl` returns have one type, and the mutant's has another.
        let site = if returns_impl(&signature.output) { Site::Alone } else { Site::Entry(start) };
        self.add(Genre::FnValue, range, site);
    }
}

fn returns_impl(output: &ReturnType) -> bool {
    struct Search(bool);
    impl Visit<'_> for Search {
        fn visit_type_impl_trait(&mut self, _: &TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut search = Search(false);
    search.visit_return_type(output);
    search.0
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(item.sig.constness.is_some(), |finder| {
            finder.function(&item.sig, &item.block);
            visit::visit_item_fn(finder, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(item.sig.constness.is_some(), |finder| {
            finder.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(finder, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.within(item.sig.constness.is_some(), |finder| {
            if let Some(body) = &item.default {
                finder.function(&item.sig, body);
            }
            visit::visit_trait_item_fn(finder, item);
        });
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.within(false, |finder| visit::visit_expr_closure(finder, closure));
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.within(true, |finder| visit::visit_item_const(finder, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.within(true, |finder| visit::visit_item_static(finder, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.within(true, |finder| visit::visit_impl_item_const(finder, item));
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.within(true, |finder| visit::visit_trait_item_const(finder, item));
    }

    fn visit_expr_const(&mut self, block: &'ast syn::ExprConst) {
        self.within(true, |finder| visit::visit_expr_const(finder, block));
    }

    fn visit_type(&mut self, r#type: &'ast syn::Type) {
        self.within(true, |finder| visit::visit_type(finder, r#type));
    }

    fn visit_pat(&mut self, pattern: &'ast Pat) {
        self.within(true, |finder| visit::visit_pat(finder, pattern));
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.within(true, |finder| visit::visit_variant(finder, variant));
    }

    fn visit_generic_argument(&mut self, argument: &'ast syn::GenericArgument) {
        self.within(true, |finder| visit::visit_generic_argument(finder, argument));
    }

    fn visit_expr_repeat(&mut self, array: &'ast syn::ExprRepeat) {
        self.visit_expr(&array.expr);
        self.within(true, |finder| finder.visit_expr(&array.len));
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let outermost = self.outermost.take().unwrap_or_else(|| binary.span().byte_range());
        let operator = binary.op.span().byte_range();
        self.add(Genre::BinaryOperator, operator, Site::Choice(outermost.clone()));
        for operand in [&binary.left, &binary.right] {
            self.outermost = matches!(**operand, Expr::Binary(_)).then(|| outermost.clone());
            self.visit_expr(operand);
        }
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let operator = unary.op.span().byte_range();
        self.add(Genre::UnaryOperator, operator, Site::Choice(unary.span().byte_range()));
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        let takes_all = |arm: &Arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none();
        let is_complete = expression.arms.iter().any(takes_all);
        for arm in &expression.arms {
            if let Some((_, guard)) = &arm.guard {
                let range = guard.span().byte_range();
                self.add(Genre::MatchArmGuard, range.clone(), Site::Choice(range));
            } else {
                // An arm with a guard covers no case, so the rest has to cover all cases.
                let behind_pattern = Site::Guard(arm.pat.span().byte_range().end);
                let site = if is_complete { behind_pattern } else { Site::Alone };
                self.add(Genre::MatchArm, arm.span().byte_range(), site);
            }
        }
        visit::visit_expr_match(self, expression);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        for pair in literal.fields.pairs() {
            let field = pair.value();
            let end = pair.punct().map_or_else(|| field.span(), Spanned::span).byte_range().end;
            if matches!(field.member, Member::Named(_)) {
                let range = field.span().byte_range().start..end;
                let site = Site::Choice(literal.span().byte_range());
                self.add(Genre::StructField, range, site);
            }
        }
        visit::visit_expr_struct(self, literal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The site of the mutant that changes `changed`, which is once in `source`.
    fn site(genre: Genre, source: &str, changed: &str) -> Site {
        let sites = sites(source).expect("Rust");
        let start = source.find(changed).expect("the code of the mutant");
        sites[&(genre, start..start + changed.len())].clone()
    }

    /// The code of `site`.
    fn code(site: Site, source: &str) -> &str {
        let Site::Choice(range) = site else { panic!("not a choice: {site:?}") };
        &source[range]
    }

    #[test]
    fn the_whole_of_a_binary_expression_is_repeated() {
        let source = "fn f() { let ä = (1 + a - b * c == d) || e; }";
        for operator in ["+", "-", "*", "=="] {
            let site = site(Genre::BinaryOperator, source, operator);
            assert_eq!("1 + a - b * c == d", code(site, source), "{operator}");
        }
        let site = site(Genre::BinaryOperator, source, "||");
        assert_eq!("(1 + a - b * c == d) || e", code(site, source));
    }

    #[test]
    fn an_argument_is_an_expression_of_its_own() {
        let source = "fn f() { a < g(b + c) }";
        assert_eq!("b + c", code(site(Genre::BinaryOperator, source, "+"), source));
    }

    #[test]
    fn what_the_compiler_evaluates_is_built_alone() {
        let sources = [
            "const A: usize = 1 + 2;",
            "static A: usize = 1 + 2;",
            "const fn f() -> usize { g(1 + 2) }",
            "struct S; impl S { const A: usize = 1 + 2; }",
            "trait T { const A: usize = 1 + 2; }",
            "fn f() { let x = [0; 1 + 2]; }",
            "fn f(x: [u8; 1 + 2]) {}",
            "fn f() { g::<{ 1 + 2 }>() }",
            "fn f() { const { 1 + 2 } }",
            "enum E { A = 1 + 2 }",
        ];
        for source in sources {
            assert_eq!(Site::Alone, site(Genre::BinaryOperator, source, "+"), "{source}");
        }
    }

    #[test]
    fn a_closure_in_a_constant_is_evaluated_later() {
        let source = "static A: LazyLock<usize> = LazyLock::new(|| 1 + 2);";
        assert_eq!("1 + 2", code(site(Genre::BinaryOperator, source, "+"), source));
    }

    #[test]
    fn a_function_returns_at_its_start_unless_its_type_is_impl() {
        let source = "async fn f() -> u8 { a(); b() }";
        assert_eq!(Site::Entry(21), site(Genre::FnValue, source, "a(); b()"));
        let source = "fn f() -> Option<impl Iterator> { b() }";
        assert_eq!(Site::Alone, site(Genre::FnValue, source, "b()"));
    }

    #[test]
    fn an_arm_gets_a_guard_if_the_others_take_all_cases() {
        let source = "fn f() { match a { B => 1, _ => 2 } }";
        assert_eq!(Site::Guard(20), site(Genre::MatchArm, source, "B => 1,"));
        let source = "fn f() { match a { B => 1, _ if g() => 2, D => 3 } }";
        assert_eq!(Site::Alone, site(Genre::MatchArm, source, "B => 1,"));
        assert_eq!("g()", code(site(Genre::MatchArmGuard, source, "g()"), source));
    }

    #[test]
    fn a_literal_without_a_field_is_another_literal() {
        let source = "fn f() { g(Self { a: 1, b: 2, ..c }) }";
        for field in ["a: 1,", "b: 2,"] {
            let site = site(Genre::StructField, source, field);
            assert_eq!("Self { a: 1, b: 2, ..c }", code(site, source), "{field}");
        }
    }
}
