//! No circle of files: the imports of `src/` are read from its text, and no file may reach itself through another one.
//!
//! An import counts for the file that defines the imported item; a re-export on the way does not count. The file of a
//! module that declares or re-exports its submodules thus depends on those alone whose items its own code names.
//! Types that flow through inferred values are not seen. Code that only tests compile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many re-exports a path may lead through.
const MAX_DEPTH: usize = 16;
/// The name of a glob import.
const GLOB: &str = "*";

/// One `use`: the name that it brings into its module, and the path behind the name.
struct Import {
    name: String,
    path: Vec<String>,
    exported: bool,
}

/// A file of the crate: what it imports, defines and names.
#[derive(Default)]
struct Module {
    imports: Vec<Import>,
    /// The names of items that stand outside of braces.
    items: BTreeSet<String>,
    /// Submodules with files of their own.
    children: BTreeSet<String>,
    /// Every path in the code beside the imports, single names included.
    paths: BTreeSet<Vec<String>>,
}

/// Modules by their paths below the crate's root, whose own path is empty.
type Crate = BTreeMap<Vec<String>, Module>;

/// The words and signs of a source, without comments and without the content of literals. `::` is one sign.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied().unwrap_or(' '));
        if c == '/' && next == '/' {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == '*' {
            at = past(&chars, at + 2, "*/");
        } else if c == '"' {
            at = past_text(&chars, at + 1, '"');
        } else if c == '\'' && (next == '\\' || chars.get(at + 2) == Some(&'\'')) {
            at = past_text(&chars, at + 1, '\'');
        } else if c == 'r' && raw_hashes(&chars[at + 1..]).is_some() {
            let hashes = raw_hashes(&chars[at + 1..]).unwrap_or_default();
            at = past(&chars, at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        } else if word(c) {
            let length = chars[at..].iter().take_while(|c| word(**c)).count();
            // The mark of a literal, such as the b of b"text", is no word.
            if !matches!(chars.get(at + length), Some('"')) || length > 2 {
                found.push(chars[at..at + length].iter().collect());
            }
            // The r of br"text" is met again.
            at += if length == 2 && c == 'b' && raw_hashes(&chars[at + 2..]).is_some() { 1 } else { length };
        } else {
            let double = c == ':' && next == ':';
            if double || !c.is_whitespace() {
                found.push(if double { "::".to_owned() } else { c.to_string() });
            }
            at += if double { 2 } else { 1 };
        }
    }
    found
}

/// The number of `#` before the quote, where a raw literal goes on here.
fn raw_hashes(chars: &[char]) -> Option<usize> {
    let hashes = chars.iter().take_while(|c| **c == '#').count();
    (chars.get(hashes) == Some(&'"')).then_some(hashes)
}

fn past(chars: &[char], from: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    let start = (from..chars.len()).find(|at| chars[*at..].starts_with(&end));
    start.map_or(chars.len(), |start| start + end.len())
}

fn past_text(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The tokens without the items that `#[cfg(test)]` stands before.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].iter().take(mark.len()).eq(mark) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        for (n, token) in tokens[at..].iter().enumerate().skip(mark.len()) {
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(token.as_str(), ";" | "}") {
                at += n + 1;
                break;
            }
        }
    }
    kept
}

impl Module {
    fn read(source: &str) -> Module {
        let tokens = without_tests(&tokens(source));
        let (mut module, mut rest, mut at, mut depth) = (Module::default(), Vec::new(), 0, 0);
        while at < tokens.len() {
            let next = tokens.get(at + 1).map(String::as_str).unwrap_or_default();
            match tokens[at].as_str() {
                // `use<'a>` captures a lifetime and imports nothing.
                "use" if next != "<" => {
                    let exported = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
                    let end = (at..tokens.len()).find(|n| tokens[*n] == ";").unwrap_or(tokens.len());
                    tree(&tokens[at + 1..end], &[], exported, &mut module.imports);
                    at = end;
                    continue;
                }
                "{" => depth += 1,
                "}" => depth -= 1,
                "mod" if depth == 0 && tokens.get(at + 2).is_some_and(|token| token == ";") => {
                    module.children.insert(next.to_owned());
                    at += 3;
                    continue;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "mod" if depth == 0 => {
                    module.items.insert(next.to_owned());
                }
                _ => {}
            }
            rest.push(tokens[at].as_str());
            at += 1;
        }
        module.paths = paths(&rest);
        module
    }
}

/// Reads a tree of imports, `a::{b, c::d as e}`, into its leaves.
fn tree(tokens: &[String], before: &[String], exported: bool, imports: &mut Vec<Import>) {
    let (mut path, mut at) = (before.to_vec(), 0);
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => {}
            "{" => {
                for branch in branches(&tokens[at + 1..tokens.len() - 1]) {
                    tree(branch, &path, exported, imports);
                }
                return;
            }
            "as" => {
                imports.push(Import { name: tokens[at + 1].clone(), path, exported });
                return;
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        imports.push(Import { name, path, exported });
    }
}

/// The parts of a list between the commas outside of braces.
fn branches(tokens: &[String]) -> Vec<&[String]> {
    let (mut found, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                found.push(&tokens[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[from..]);
    found
}

/// Every `a::b::c` and every single name. What follows a dot is a field or a method and no path.
fn paths(tokens: &[&str]) -> BTreeSet<Vec<String>> {
    let is_word = |token: &str| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let (mut found, mut at) = (BTreeSet::new(), 0);
    while at < tokens.len() {
        if !is_word(tokens[at]) || (at > 0 && matches!(tokens[at - 1], "." | "::")) {
            at += 1;
            continue;
        }
        let mut path = vec![tokens[at].to_owned()];
        while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(|token| is_word(token)) {
            path.push(tokens[at + 2].to_owned());
            at += 2;
        }
        found.insert(path);
        at += 1;
    }
    found
}

/// The module that defines what `path`, as it stands in the module `from`, names. `None` for a path that ends at a
/// module, or leads out of the crate.
fn defined_in(all: &Crate, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (mut at, mut rest) = (from.to_vec(), path);
    match rest.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {}
        child if all[from].children.contains(child) => {}
        name => {
            let import = all[from].imports.iter().find(|import| import.name == name && import.path != path)?;
            return defined_in(all, from, &[&import.path, &rest[1..]].concat(), depth + 1);
        }
    }
    while let Some(word) = rest.first() {
        if word == "super" {
            at.pop();
        } else if all[&at].children.contains(word) {
            at.push(word.clone());
        } else {
            break;
        }
        rest = &rest[1..];
    }
    let (item, module) = (rest.first()?, &all[&at]);
    if item == GLOB {
        return None;
    }
    if !module.items.contains(item) {
        let imports = module.imports.iter().filter(|import| import.name == *item || import.name == GLOB);
        let further = imports.filter_map(|import| {
            let mut path = import.path.clone();
            if import.name == GLOB {
                path.pop();
                path.push(item.clone());
            }
            defined_in(all, &at, &path, depth + 1)
        });
        if let Some(found) = further.into_iter().next() {
            return Some(found);
        }
    }
    Some(at)
}

/// The modules whose items a module names.
fn dependencies(all: &Crate, from: &[String]) -> BTreeSet<Vec<String>> {
    let module = &all[from];
    let imports = module.imports.iter().filter(|import| !import.exported).map(|import| &import.path);
    let found = imports.chain(&module.paths).filter_map(|path| defined_in(all, from, path, 0));
    found.filter(|to| to != from).collect()
}

/// The modules that can be reached from each module.
fn reached(edges: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>, from: &[String]) -> BTreeSet<Vec<String>> {
    let (mut found, mut waiting) = (BTreeSet::new(), vec![from.to_vec()]);
    while let Some(module) = waiting.pop() {
        for to in &edges[&module] {
            if found.insert(to.clone()) {
                waiting.push(to.clone());
            }
        }
    }
    found
}

/// The sets of modules of which each reaches every other one.
fn circles(all: &Crate) -> BTreeSet<BTreeSet<Vec<String>>> {
    let edges: BTreeMap<_, _> = all.keys().map(|module| (module.clone(), dependencies(all, module))).collect();
    let reach: BTreeMap<_, _> = all.keys().map(|module| (module, reached(&edges, module))).collect();
    let circle = |module: &Vec<String>| {
        reach[module].iter().filter(|other| reach[other].contains(module)).cloned().collect::<BTreeSet<_>>()
    };
    all.keys().map(circle).filter(|circle| circle.len() > 1).collect()
}

/// The crate from the texts of its files, by name: `lib.rs`, `core/model.rs`. Files that no module declares are left
/// out.
fn gather(sources: &BTreeMap<String, String>) -> Crate {
    let mut all = Crate::new();
    let mut waiting = vec![(Vec::new(), "lib.rs".to_owned())];
    while let Some((path, file)) = waiting.pop() {
        let module = Module::read(sources.get(&file).unwrap_or_else(|| panic!("there is no file {file}")));
        for child in &module.children {
            let path: Vec<String> = path.iter().chain([child]).cloned().collect();
            waiting.push((path.clone(), file_of(&path)));
        }
        all.insert(path, module);
    }
    all
}

fn file_of(module: &[String]) -> String {
    if module.is_empty() { "lib.rs".to_owned() } else { module.join("/") + ".rs" }
}

fn files_of(circle: &BTreeSet<Vec<String>>) -> Vec<String> {
    circle.iter().map(|module| file_of(module)).collect()
}

fn sources() -> BTreeMap<String, String> {
    let base = super::root().join("src");
    let paths = super::files(&base).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let name = |path: &Path| path.strip_prefix(&base).expect("a file of src").display().to_string();
    paths.map(|path| (name(&path), fs::read_to_string(&path).expect("a source"))).collect()
}

#[test]
fn no_file_reaches_itself_through_another() {
    let all = gather(&sources());
    assert!(all.len() > 100, "{} modules", all.len());
    let found: Vec<String> = circles(&all).iter().map(|circle| describe(&all, &files_of(circle))).collect();
    assert!(found.is_empty(), "circles of files:\n{}", found.join("\n"));
}

/// A circle with its edges.
fn describe(all: &Crate, circle: &[String]) -> String {
    let mut text = format!("&{circle:?},\n");
    for (module, file) in all.keys().map(|module| (module, file_of(module))).filter(|(_, file)| circle.contains(file)) {
        let to: Vec<String> =
            dependencies(all, module).iter().map(|to| file_of(to)).filter(|to| circle.contains(to)).collect();
        text += &format!("    {file} imports from {}\n", to.join(", "));
    }
    text
}

fn circles_of(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources = sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    circles(&gather(&sources)).iter().map(files_of).collect()
}

#[test]
fn the_search_for_circles_finds_them() {
    let of =
        |lib: &str, a: &str, b: &str, c: &str| circles_of(&[("lib.rs", lib), ("a.rs", a), ("b.rs", b), ("a/c.rs", c)]);
    let lib = "pub mod a; mod b;";
    // Through imports, through paths in the code, through names of modules, and through three files.
    let two = [vec!["a.rs".to_owned(), "b.rs".to_owned()]];
    assert_eq!(of(lib, "mod c; use crate::b::B; pub struct A;", "use super::a::A; pub struct B;", ""), two);
    assert_eq!(of(lib, "mod c; fn a() { crate::b::f() }", "use crate::{a::{self as x}}; fn f() { x::a() }", ""), two);
    assert_eq!(of(lib, "mod c; use crate::b; fn a() { b::f() }", "fn f() { super::a::a() }", ""), two);
    let three = of(lib, "mod c; fn a() { c::f() }", "fn f() { crate::a::a() }", "pub fn f() { crate::b::f() }");
    assert_eq!(three, [["a.rs", "a/c.rs", "b.rs"]]);
    // A submodule and its parent: a re-export alone is no dependency, and a path through it leads to the definition.
    assert_eq!(of(lib, "mod c; pub use c::C; pub struct A;", "", "use super::A; pub struct C;"), [[""; 0]; 0]);
    let child = [vec!["a.rs".to_owned(), "a/c.rs".to_owned()]];
    assert_eq!(of(lib, "mod c; pub use c::C; pub struct A(C);", "", "use super::A; pub struct C;"), child);
    assert_eq!(
        of(lib, "mod c; pub use c::C;", "use crate::a::C; pub struct B;", "use crate::b::B; pub struct C;").len(),
        1
    );
    assert_eq!(
        of(lib, "mod c; pub use c::*; fn a() { crate::b::f() }", "use crate::a::C; fn f() {}", "struct C;"),
        [[""; 0]; 0]
    );
    // Comments, texts, other crates and tests are no imports.
    let quiet = "//! crate::b::f\n/* crate::b::f */ mod c; fn a() { \"crate::b::f\"; r#\"\"crate::b::f\"#; '\"'; ::b::f(); }\n\
                 #[cfg(test)] mod tests { use crate::b; fn t() { b::f() } }\n#[cfg(test)] use crate::b::f;";
    assert_eq!(of(lib, quiet, "use crate::a::a; fn f() {}", ""), [[""; 0]; 0]);
}
