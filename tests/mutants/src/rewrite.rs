//! The mutants of a crate, and its source with a switch for each of them.
//!
//! `a == b` becomes `(if on(17) { a != b } else { a == b })`. A function's body begins with `if on(18) { return 0; }`. A
//! match arm gets the guard `if !on(19)`. All this is inserted into the text, without new lines.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use proc_macro2::Span;
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A change of the source that a test should catch.
pub struct Mutant {
    /// What `cargo mutants` calls it, without its position, and the line where it is.
    pub key: String,
    pub file: String,
    pub line: usize,
    /// The lines of its function, or none.
    pub function: Range<usize>,
    genre: String,
    range: Range<usize>,
    replacement: String,
    /// A body of another type than the one that `impl` stands for cannot be switched.
    is_opaque: bool,
}

/// The mutants that `cargo mutants` lists.
pub fn list(root: &Path, package: &str, files: &[String]) -> Vec<Mutant> {
    let mut command = Command::new("cargo");
    let arguments = ["mutants", "--list", "--json", "--package", package];
    let text = crate::output_of(command.args(arguments).args(files).current_dir(root));
    let list: Vec<Value> = serde_json::from_str(&text).expect("cargo mutants writes JSON");
    let mut sources = HashMap::new();
    let mut seen = HashMap::new();
    let mutant = |value: &Value| {
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let file = text(&value["file"]);
        let source = sources.entry(file.clone()).or_insert_with(|| Source::read(&root.join(&file)));
        let line = number(&value["span"]["start"]["line"]);
        let name = text(&value["name"]);
        let what = name.splitn(4, ':').nth(3).unwrap_or(&name);
        let mut key = format!("{file}:{what}: {}", source.text.lines().nth(line - 1).unwrap_or_default().trim());
        let times = seen.entry(key.clone()).and_modify(|times| *times += 1).or_insert(1);
        if *times > 1 {
            key += &format!(" #{times}");
        }
        let function = &value["function"]["span"];
        Mutant {
            key,
            line,
            function: number(&function["start"]["line"])..number(&function["end"]["line"]) + 1,
            genre: text(&value["genre"]),
            range: source.offset(&value["span"]["start"])..source.offset(&value["span"]["end"]),
            replacement: text(&value["replacement"]),
            is_opaque: text(&value["function"]["return_type"]).contains("impl "),
            file,
        }
    };
    list.iter().map(mutant).collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_default() as usize
}

struct Source {
    text: String,
    /// The offset of each line.
    lines: Vec<usize>,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a source of the crate can be read");
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    /// The offset of a line and a column in characters, both from 1.
    fn offset(&self, place: &Value) -> usize {
        self.at(number(&place["line"]), number(&place["column"]) - 1)
    }

    fn at(&self, line: usize, column: usize) -> usize {
        let start = self.lines[line - 1];
        start + self.text[start..].chars().take(column).map(char::len_utf8).sum::<usize>()
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.at(span.start().line, span.start().column)..self.at(span.end().line, span.end().column)
    }
}

/// Where the operators and match arms of a file are.
struct Sites<'a> {
    source: &'a Source,
    /// By the start of its operator: an expression.
    operators: HashMap<usize, Range<usize>>,
    /// By the start of an arm: its guard, empty without one.
    guards: HashMap<usize, Range<usize>>,
    /// By name: the word `const` of constant functions.
    constants: Vec<(String, Range<usize>)>,
}

impl Sites<'_> {
    fn signature(&mut self, signature: &syn::Signature) {
        if let Some(word) = signature.constness {
            self.constants.push((signature.ident.to_string(), self.source.range(word.span())));
        }
    }
}

impl<'ast> Visit<'ast> for Sites<'_> {
    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        self.operators.insert(self.source.range(binary.op.span()).start, self.source.range(binary.span()));
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        self.operators.insert(self.source.range(unary.op.span()).start, self.source.range(unary.span()));
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let pattern = self.source.range(arm.pat.span());
        let guard = arm.guard.as_ref().map(|(_, guard)| self.source.range(guard.span()));
        let guard = guard.unwrap_or(pattern.end..pattern.end);
        self.guards.insert(self.source.range(arm.span()).start, guard);
        visit::visit_arm(self, arm);
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.signature(&function.sig);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.signature(&function.sig);
        visit::visit_impl_item_fn(self, function);
    }
}

/// The switch of a mutant. The compiler warns of the unused variable, which shows that the code is compiled here.
fn switch(n: usize) -> String {
    format!("{{ let jtp_mutant_{n} = (); crate::jtp_mutant::on({n}) }}")
}

/// Marks text that the mutants `n` brought, so that `marked` knows which of them an error is about.
pub fn mark(n: &str, text: &str) -> String {
    format!("/*<{n}*/{text}/*>*/")
}

/// The mutants that brought the text at an offset.
pub fn marked(text: &str, offset: usize) -> Vec<usize> {
    let mut open = Vec::new();
    for (at, _) in text[..offset].match_indices("/*") {
        match text.as_bytes().get(at + 2) {
            Some(b'<') => open.push(text[at + 3..].split("*/").next().unwrap_or_default()),
            Some(b'>') => drop(open.pop()),
            _ => {}
        }
    }
    open.last().map_or_else(Vec::new, |list| list.split(',').filter_map(|n| n.parse().ok()).collect())
}

/// A file with the switches of its mutants, given with their numbers. Functions are not constant in it, but those in
/// `constant`. Adds those without a switch to `unswitched`.
pub fn rewrite(
    path: &Path,
    mutants: &[(usize, &Mutant)],
    constant: &HashSet<String>,
    unswitched: &mut HashSet<usize>,
) -> String {
    let source = Source::read(path);
    let file = syn::parse_file(&source.text).expect("a source of the crate is Rust");
    let mut sites = Sites { source: &source, operators: HashMap::new(), guards: HashMap::new(), constants: Vec::new() };
    sites.visit_file(&file);
    let mut text = source.text.clone();
    for (_, word) in sites.constants.iter().filter(|(name, _)| !constant.contains(name)) {
        text.replace_range(word.clone(), "     ");
    }

    // What stands before and after a range. The mutants of one expression share their range.
    let mut expressions: BTreeMap<(usize, usize), Vec<(usize, String)>> = BTreeMap::new();
    let mut inserted: Vec<(usize, usize, usize, String)> = Vec::new();
    for &(n, mutant) in mutants {
        let Range { start, end } = mutant.range;
        let guard = sites.guards.get(&start);
        match (mutant.genre.as_str(), sites.operators.get(&start)) {
            ("FnValue", _) if !mutant.is_opaque => {
                let text = format!("if {} {{ return {}; }} ", switch(n), mutant.replacement);
                inserted.push((start, 1, 0, mark(&n.to_string(), &text)));
            }
            ("MatchArmGuard", _) => expressions.entry((start, end)).or_default().push((n, mutant.replacement.clone())),
            ("MatchArm", _) if guard.is_some_and(Range::is_empty) => {
                let text = format!(" if !{}", switch(n));
                inserted.push((guard.map_or(0, |guard| guard.start), 0, 0, mark(&n.to_string(), &text)));
            }
            ("MatchArm", _) if guard.is_some() => {
                let guard = guard.cloned().unwrap_or_default();
                inserted.push((guard.start, 1, 0, mark(&n.to_string(), &format!("!{} && (", switch(n)))));
                inserted.push((guard.end, 0, usize::MAX, ")".to_owned()));
            }
            ("BinaryOperator" | "UnaryOperator", Some(range)) => {
                let (before, after) = (&source.text[range.start..start], &source.text[end..range.end]);
                let text = format!("{before}{}{after}", mutant.replacement);
                expressions.entry((range.start, range.end)).or_default().push((n, text));
            }
            _ => drop(unswitched.insert(n)),
        }
    }
    for ((start, end), versions) in expressions {
        let numbers: Vec<String> = versions.iter().map(|(n, _)| n.to_string()).collect();
        let version =
            |(n, text): &(usize, String)| mark(&n.to_string(), &format!("if {} {{ {text} }} else ", switch(*n)));
        let before = format!("/*<{}*/({}{{ ", numbers.join(","), versions.iter().map(version).collect::<String>());
        inserted.push((start, 1, usize::MAX - (end - start), before));
        inserted.push((end, 0, end - start, " })/*>*/".to_owned()));
    }
    // At one offset, inner ranges end before outer ones, all of them before others begin, and outer ones begin first.
    inserted.sort();
    for (at, _, _, insertion) in inserted.iter().rev() {
        text.insert_str(*at, insertion);
    }
    text
}
