//! What must hold of the project as a whole, seen from its text: pure modules stay pure, modules below know nothing of
//! those above, and the documents (README, `docs/`, man page, units) name everything that the program has.
//! Nothing here starts a daemon.
//!
//! The man pages are generated: `PAGESYNCD_UPDATE=1 cargo test --test architecture` writes them anew.

#[path = "architecture/circles.rs"]
mod circles;
#[path = "architecture/config.rs"]
mod config;
#[path = "architecture/manual.rs"]
mod manual;
#[path = "architecture/monitoring.rs"]
mod monitoring;
#[path = "architecture/openapi.rs"]
mod openapi;
#[path = "architecture/releases.rs"]
mod releases;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pagesyncd::cli::explanation;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The document that has the outside of the program.
const REFERENCE: &str = "docs/reference.md";
/// The document for operators.
const OPERATIONS: &str = "docs/operations.md";

/// The documents in Markdown, each with its path.
fn documents() -> Vec<(PathBuf, String)> {
    let roots = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs"].map(|name| root().join(name));
    let mut paths: Vec<PathBuf> = roots.iter().flat_map(|path| files(path)).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "md"));
    assert!(paths.len() >= 9, "{paths:?}");
    paths.into_iter().map(|path| (path.clone(), read(path))).collect()
}

/// Every file below a folder, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| files(&entry.expect("an entry").path())).collect()
}

/// The Rust files of a module: `src/NAME.rs` and all below `src/NAME/`, tests beside them left out.
fn module(name: &str) -> Vec<PathBuf> {
    let base = root().join("src").join(name);
    let mut found: Vec<PathBuf> = [base.with_extension("rs"), base].into_iter().filter(|p| p.exists()).collect();
    found = found.iter().flat_map(|path| files(path)).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "rs") && !is_test(path));
    assert!(!found.is_empty(), "there is no module {name}");
    found
}

/// A file of tests: `tests.rs`, or one below a folder `tests`.
fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The code of a file: without comments, and without the tests at its end.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "mod tests {");
    let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    lines.map(|(n, line)| (n + 1, without_comment(line))).collect()
}

/// Does `line` name `word` as a whole path segment or identifier?
fn names(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

fn offences(modules: &[&str], forbidden: &[&str]) -> Vec<String> {
    let paths = modules.iter().flat_map(|name| module(name));
    let lines = paths.flat_map(|path| code(&path).into_iter().map(move |(n, line)| (path.clone(), n, line)));
    let hits = lines.flat_map(|(path, n, line)| {
        let words = forbidden.iter().filter(|word| names(&line, word));
        words.map(|word| format!("{}:{n} names {word}", path.display())).collect::<Vec<_>>()
    });
    hits.collect()
}

const PURE: &[&str] = &[
    "core",
    "config/diff",
    "sources/canonical",
    "sources/scrub",
    "sources/facebook/page_data",
    "sources/facebook/token_check",
    "sources/facebook/graph/error",
    "sources/facebook/graph/throttle",
    "sources/facebook/graph/usage",
    "sources/facebook/graph/json",
    "sources/shopify/budget",
    "sources/shopify/delivery",
    "sources/shopify/error",
    "sources/shopify/ids",
    "sources/shopify/object",
    "sources/shopify/queries",
    "sources/shopify/query_hmac",
    "sources/shopify/webhook_signature",
];

#[test]
fn pure_modules_use_no_runtime_no_network_no_disk_and_no_clock() {
    let engines = ["tokio", "ractor", "hyper", "reqwest", "sled", "s3", "rand", "std::fs", "std::net", "std::thread"];
    let clocks = ["WallTime::now", "Instant::now", "SystemTime", "OffsetDateTime::now_utc"];
    let found = offences(PURE, &[&engines[..], &clocks[..]].concat());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The layers, the lowest first: a module knows those of its own layer and of the layers below.
const LAYERS: &[&[&str]] = &[
    &["core", "clock", "random", "turnstile"],
    &[
        "config",
        "events",
        "http_client",
        "metrics",
        "sources",
        "spaces",
        "store",
        "systemd",
        "telemetry",
        "tls",
        "traces",
    ],
    &["context", "control", "kept_config", "runs"],
    &["services"],
    &["http"],
    &["actors"],
    &["admin_client", "cli", "exit"],
];
/// Modules around the whole: the program, its fuzz targets, and a world to try it in. `cli` alone starts that world.
const AROUND: &[&str] = &["fuzzing", "main", "sandbox"];

/// The modules of the crate that a line of code names.
fn crate_modules(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .map(|(at, start)| {
            let rest = &line[at + start.len()..];
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
        })
        .collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn the_core_knows_no_source() {
    let found = offences(&["core"], &["crate::sources", "facebook::graph"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_module_belongs_to_a_layer() {
    let entries = fs::read_dir(root().join("src")).expect("the sources").map(|entry| entry.expect("an entry").path());
    let stems = entries.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let lost: Vec<String> =
        stems.filter(|name| name != "lib" && !AROUND.contains(&name.as_str()) && layer_of(name).is_none()).collect();
    assert!(lost.is_empty(), "without a layer: {lost:?}");
}

#[test]
fn calls_point_down() {
    let mut found = Vec::new();
    for (layer, modules) in LAYERS.iter().enumerate() {
        for path in modules.iter().flat_map(|name| module(name)) {
            for (n, line) in code(&path) {
                let is_above = |named: &&str| layer_of(named).is_none_or(|of_named| of_named > layer);
                let starts_the_world = |named: &&str| *named == "sandbox" && modules.contains(&"cli");
                let above =
                    crate_modules(&line).into_iter().filter(|named| is_above(named) && !starts_the_world(named));
                found.extend(above.map(|named| format!("{}:{n} names crate::{named}", path.display())));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let found = offences(
        PURE,
        &["crate::store", "crate::spaces", "crate::sources::facebook::graph::transport", "crate::metrics"],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_actors_and_the_program_know_the_actor_library() {
    let below: Vec<&str> = LAYERS[..5].concat();
    let found = offences(&below, &["ractor"]);
    // The log names the library's target, to keep it quiet.
    let found: Vec<String> = found.into_iter().filter(|offence| !offence.contains("src/telemetry/levels.rs")).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_search_for_offences_finds_them() {
    assert!(names("let at = WallTime::now();", "WallTime::now"));
    assert!(names("use tokio::time;", "tokio"));
    assert!(!names("let tokio_like = 1;", "tokio"));
    assert!(!offences(&["actors"], &["tokio", "ractor"]).is_empty());
    assert_eq!(crate_modules("use crate::http::server; f(&crate::clock::now())"), ["http", "clock"]);
    assert_eq!((layer_of("core"), layer_of("cli"), layer_of("{")), (Some(0), Some(LAYERS.len() - 1), None));
}

/// What the program calls its own: every text between double quotes in a source file.
fn quoted(source: &str) -> Vec<String> {
    source.lines().flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The texts of `wanted` that `text` does not hold.
fn missing<'a>(text: &str, wanted: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut missing: Vec<String> = wanted.into_iter().filter(|w| !text.contains(w)).map(str::to_owned).collect();
    missing.dedup();
    missing
}

/// The components that log messages begin with, as `docs/operations.md` explains them.
const COMPONENTS: &[&str] = &[
    "acme",
    "actor",
    "cleanup",
    "config",
    "deletion",
    "graph",
    "http",
    "log",
    "login",
    "notify",
    "page",
    "panic",
    "process",
    "purge",
    "run",
    "shop",
    "shopify",
    "spaces",
    "store",
    "subscription",
    "systemd",
    "tls",
    "traces",
    "watchdog",
    "webhook",
];

/// The arguments of each log statement in a file, with the number of the line that it begins on.
fn log_statements(source: &str) -> Vec<(usize, &str)> {
    let macros = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];
    let starts = macros.iter().flat_map(|name| source.match_indices(name).map(|(at, _)| (at, at + name.len())));
    let starts = starts.filter(|(at, _)| {
        let line = source[..*at].rsplit('\n').next().unwrap_or_default();
        !line.contains("//") && !line.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    let number = |at: usize| source[..at].matches('\n').count() + 1;
    let mut found: Vec<_> = starts.map(|(at, open)| (number(at), arguments_from(&source[open..]))).collect();
    found.sort_unstable_by_key(|(number, _)| *number);
    found
}

/// The text up to the parenthesis that closes an open one.
fn arguments_from(text: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The literal that is a log statement's message: the first one that is an argument by itself.
fn message(arguments: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut escaped, mut before, mut start) = (0, false, false, ',', None);
    for (at, c) in arguments.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if quoted => {
                quoted = false;
                if let Some(start) = start {
                    return Some(&arguments[start..at]);
                }
            }
            '"' => (quoted, start) = (true, (depth == 0 && before == ',').then_some(at + 1)),
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if !quoted && !c.is_whitespace() {
            before = c;
        }
    }
    None
}

/// Does a message name its component, and what the component had to do with, in front?
fn names_its_component(message: &str) -> bool {
    let end = message.find([' ', ':']).unwrap_or(message.len());
    let (component, rest) = message.split_at(end);
    // A component that varies has its name in a variable `component`.
    let known = COMPONENTS.contains(&component) || component == "{component}";
    let rest = rest.strip_prefix(" [").map_or(Some(rest), |subject| subject.split_once(']').map(|(_, rest)| rest));
    known && rest.is_some_and(|rest| rest.starts_with(": ") && rest.len() > 2)
}

#[test]
fn log_messages_name_their_component() {
    let sources = files(&root().join("src"));
    let sources = sources.iter().filter(|p| p.extension().is_some_and(|e| e == "rs") && !p.ends_with("tests.rs"));
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in sources {
        let text = fs::read_to_string(path).expect("a source");
        let text = text.split("\nmod tests {").next().unwrap_or_default();
        for (number, arguments) in log_statements(text) {
            count += 1;
            let message = message(arguments).unwrap_or("(no literal)");
            if !names_its_component(message) {
                wrong.push(format!("{}:{number}: {message}", path.display()));
            }
        }
    }
    assert!(count > 80, "{count} log statements");
    assert!(wrong.is_empty(), "messages without `component: ` or `component [subject]: `:\n{}", wrong.join("\n"));
    let operations = read(OPERATIONS);
    let lacking = missing(
        &operations,
        COMPONENTS.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().iter().map(String::as_str),
    );
    assert!(lacking.is_empty(), "{OPERATIONS} does not explain {lacking:?}");
}

/// The module that a file of `src` is.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).expect("a source").with_extension("");
    let names = below.iter().map(|name| name.to_str().expect("a name"));
    std::iter::once("pagesyncd").chain(names).collect::<Vec<_>>().join("::")
}

/// `log.level` refuses the names of other modules, since nothing would be heard of them.
#[test]
fn the_modules_that_a_log_level_may_name_are_those_that_write_to_the_log() {
    let sources = files(&root().join("src"));
    let sources = sources.iter().filter(|p| p.extension().is_some_and(|e| e == "rs") && !p.ends_with("tests.rs"));
    let writes = |path: &&PathBuf| {
        let text = fs::read_to_string(path).expect("a source");
        !log_statements(text.split("\nmod tests {").next().unwrap_or_default()).is_empty()
    };
    // Panics are logged under a name of their own.
    let mut expected: Vec<String> = sources.filter(writes).map(|path| module_of(path)).collect();
    expected.push("pagesyncd::panic".to_owned());
    expected.sort_unstable();
    assert_eq!(pagesyncd::config::log_modules(), expected, "src/config/log_modules.rs");
}

#[test]
fn the_search_for_log_messages_finds_them() {
    let source = "tracing::warn!(a = \"x\", b = f(\"y\"), \"page [{a}]: lost (\\\"{b}\\\"), \\\n next\", 7);\n\
                  // info!(\"no\")\ninfo!(%error, error);";
    let found: Vec<_> = log_statements(source).into_iter().map(|(n, arguments)| (n, message(arguments))).collect();
    assert_eq!(found, [(1, Some("page [{a}]: lost (\\\"{b}\\\"), \\\n next")), (4, None)]);
    for good in ["page: gone", "page [{link}]: gone", "{component}: gone", "page [{a}/{b}]: gone"] {
        assert!(names_its_component(good), "{good}");
    }
    for bad in ["the page is gone", "pages: gone", "page [{link}] gone", "page: ", "{}: gone", "Page: gone"] {
        assert!(!names_its_component(bad), "{bad}");
    }
}

/// The metrics with a label `source` whose row in the reference does not have it.
fn unsourced(metrics: &str, reference: &str) -> Vec<String> {
    let fields = metrics.lines().filter_map(|line| line.trim().split_once(": Family<Source"));
    let fields: Vec<String> = fields.map(|(field, _)| format!("self.{field}.clone()")).collect();
    assert!(fields.len() >= 3, "{fields:?}");
    let calls = metrics.split("r.register(").skip(1).filter_map(|rest| rest.split(");").next());
    let sourced = calls.filter(|call| fields.iter().any(|field| call.contains(field.as_str())));
    let rows = sourced.map(|call| format!("| `pagesyncd_{}", quoted(call)[0]));
    let has_label = |row: &String| {
        let found = reference.lines().find(|line| line.starts_with(row.as_str()));
        found.and_then(|line| line.split('`').nth(1)).is_some_and(|name| names(name, "source"))
    };
    rows.filter(|row| !has_label(row)).collect()
}

#[test]
fn the_search_for_metrics_without_a_source_finds_them() {
    let metrics = "a: Family<Sourced<A>, Gauge>,\nb: Family<SourceCallLabel, Counter>,\nc: Family<Sourced<A>, Gauge>,\n\
                   d: Gauge,\nr.register(\"aa\", \"A\", self.a.clone());\nr.register(\"bb\", \"B\", self.b.clone());\n\
                   r.register(\"cc\", \"C\", self.c.clone());\nr.register(\"dd\", \"D\", self.d.clone());";
    let reference = "| `pagesyncd_aa{x,source}` | y |\n| `pagesyncd_bb{x}` | source |\n| `pagesyncd_dd` | z |";
    assert_eq!(unsourced(metrics, reference), ["| `pagesyncd_bb", "| `pagesyncd_cc"]);
}

#[test]
fn the_documents_have_every_metric_route_and_health() {
    let metrics = read("src/metrics.rs");
    let registered: Vec<String> =
        metrics.split("r.register(").skip(1).map(|call| format!("`pagesyncd_{}", quoted(call)[0])).collect();
    assert!(registered.len() >= 16, "{registered:?}");
    assert_eq!(unsourced(&metrics, &read(REFERENCE)), Vec::<String>::new(), "{REFERENCE} has these without `source`");
    let public = read("src/http/routes/public.rs");
    let routes: Vec<String> = public.lines().filter(|l| l.contains(", Route::")).flat_map(quoted).collect();
    assert!(routes.len() >= 8, "{routes:?}");
    let admin = read("src/http/routes/admin.rs");
    let table = admin.lines().filter(|line| line.starts_with("//! | `"));
    let admin: Vec<String> =
        table.flat_map(|line| line.split('`').skip(1).step_by(2).take(2).map(str::to_owned)).collect();
    let admin: Vec<String> = admin.into_iter().filter(|text| text.starts_with('/')).collect();
    assert!(admin.len() >= 6, "{admin:?}");
    let health = read("src/core/park_reason.rs");
    let words = health.split("pub fn word(self)").nth(1).and_then(|rest| rest.split("pub fn reason").next());
    let healths: Vec<String> = quoted(words.expect("the words"))
        .into_iter()
        .chain(["active".into(), "throttled".into(), "expiring".into()])
        .collect();
    let healths: Vec<String> = healths.iter().map(|word| format!("| `{word}` | ")).collect();
    assert!(healths.len() >= 7, "{healths:?}");
    let known = pagesyncd::core::health::WORDS.iter().map(|word| format!("| `{word}` | "));
    let (known, named): (BTreeSet<String>, BTreeSet<String>) = (known.collect(), healths.iter().cloned().collect());
    assert_eq!(known, named, "the words of core::health, and those that its code says");
    let wanted = [(REFERENCE, registered), (REFERENCE, routes), (REFERENCE, admin), (OPERATIONS, healths)];
    for (document, wanted) in wanted {
        let lacking = missing(&read(document), wanted.iter().map(String::as_str));
        assert!(lacking.is_empty(), "{document} lacks {lacking:?}");
    }
}

/// The codes of errors in a source of the HTTP routes: a literal behind a status or the key `code`, or at the beginning
/// of a tuple with the words for a person.
fn error_codes(source: &str) -> BTreeSet<String> {
    let source = source.split("\nmod tests {").next().unwrap_or_default().replace("\\\"", "\"");
    let line = source.lines().map(str::trim).collect::<Vec<&str>>().join(" ");
    let literal = |rest: &str| {
        let (word, behind) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        let is_code = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_code.then(|| (word.to_owned(), behind.trim_start_matches([',', ' ']).to_owned()))
    };
    let behind_key = ["code: ", "\"code\":"].into_iter().flat_map(|key| line.split(key).skip(1));
    let statuses = line.split("StatusCode::").skip(1);
    let behind_status = statuses
        .filter_map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_').strip_prefix(','));
    let mut codes: BTreeSet<String> =
        behind_key.chain(behind_status).filter_map(literal).map(|(code, _)| code).collect();
    let words =
        |behind: &String| ["\"", "text", "what", "format", "html"].iter().any(|start| behind.starts_with(start));
    let tuples = line.split(" (").skip(1).filter_map(literal);
    codes.extend(tuples.filter(|(_, behind)| words(behind)).map(|(code, _)| code));
    codes
}

#[test]
fn every_health_key_and_error_code_has_an_explanation() {
    let sources = files(&root().join("src/http"));
    let sources = sources.iter().filter(|path| path.extension().is_some_and(|e| e == "rs") && !is_test(path));
    let codes: BTreeSet<String> = sources.flat_map(|path| error_codes(&read(path))).collect();
    assert!(codes.len() >= 30, "{codes:?}");
    let explains = |topic: &str, section: &str| explanation(topic).is_some_and(|text| text.contains(section));
    let lacking: Vec<&String> = codes.iter().filter(|code| !explains(code, "Error codes")).collect();
    assert!(lacking.is_empty(), "{REFERENCE} does not explain the error codes {lacking:?}");
    let rows = read(REFERENCE);
    let table = rows.split("### Error codes").nth(1).and_then(|rest| rest.split("\n##").next()).expect("the table");
    let named = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let strays: Vec<&str> = named.filter(|code| !codes.contains(*code)).collect();
    assert!(strays.is_empty(), "{REFERENCE} explains {strays:?}, which no route answers");
    for health in pagesyncd::core::health::WORDS {
        assert!(explains(health, "Health of links"), "no explanation of {health}");
    }
    for key in pagesyncd::config::documented() {
        assert!(explains(key.name, "Configuration"), "no explanation of {}", key.name);
    }
}

#[test]
fn every_problem_has_a_row_with_its_severity_and_an_explanation() {
    use pagesyncd::core::problem::Code;
    let rows = read(REFERENCE);
    let table = rows.split("### Problems").nth(1).and_then(|rest| rest.split("\n##").next()).expect("the table");
    let named: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted = Code::ALL.map(|code| format!("| `{}` | {} | ", code.word(), code.severity().word()));
    assert_eq!(named.len(), wanted.len(), "{REFERENCE} explains {named:?}");
    for (row, start) in named.iter().zip(&wanted) {
        assert!(row.starts_with(start), "the row {row} is not that of {start}");
    }
    for code in Code::ALL {
        let explained = explanation(code.word()).unwrap_or_default();
        assert!(explained.contains("Problems"), "no explanation of {}", code.word());
    }
}

#[test]
fn the_search_for_error_codes_finds_them() {
    let source = "error(StatusCode::NOT_FOUND, \"not_found\", \"x\")\n(StatusCode::BAD_GATEWAY,\n \"away\")\ncode: \"spent\",\n\
                  r#\"{\"error\":{\"code\":\"bad\"}}\"# => (\n \"left\",\n text, 1)\nf(\"query\", \"x\") (\"other\", 7)";
    let found: Vec<String> = error_codes(source).into_iter().collect();
    assert_eq!(found, ["away", "bad", "left", "not_found", "spent"]);
}

#[test]
fn reference_and_man_page_have_every_exit_code() {
    let exits = read("src/exit.rs");
    let codes: Vec<String> = exits
        .lines()
        .filter_map(|l| l.strip_prefix("pub const ")?.strip_suffix(';')?.split(" = ").nth(1))
        .map(str::to_owned)
        .collect();
    assert_eq!(codes.len(), 8, "{codes:?}");
    let reference = read(REFERENCE);
    let man = read("man/sections.roff");
    for code in codes {
        assert!(reference.contains(&format!("\n| `{code}` | ")), "{REFERENCE} lacks exit code {code}");
        assert!(explanation(&code).is_some_and(|text| text.contains("Exit codes")), "no explanation of {code}");
        assert!(man.contains(&format!("\\fB{code}\\fR\n")), "the man page lacks exit code {code}");
    }
}

/// The words of a command in a document: without comments, pipes, redirections and what stands before the
/// program.
fn arguments(line: &str) -> Option<Vec<String>> {
    let ends = ["#", "<", ">", "|", "&&"];
    let program = |word: &str| word.ends_with("pagesyncd") || word.ends_with("/as-service");
    let words = line.split_whitespace().skip_while(|word| !program(word));
    let words: Vec<String> = words.take_while(|word| !ends.contains(word)).map(str::to_owned).collect();
    (words.len() > 1).then_some(words)
}

fn understood(words: &[String]) -> Result<(), String> {
    pagesyncd::cli::command().try_get_matches_from(words).map(drop).map_err(|e| format!("{}: {e}", words.join(" ")))
}

#[test]
fn commands_in_the_documents_are_understood() {
    let text: String = documents().into_iter().map(|(_, text)| text).collect();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(str::trim_start);
    let lines = lines.filter(|line| !line.starts_with("cargo ") && !line.starts_with("install "));
    let lines = lines.filter(|line| !line.starts_with("system") && !line.starts_with("tar "));
    let commands: Vec<Vec<String>> = lines.flat_map(|line| line.split(" | ")).filter_map(arguments).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for words in commands {
        understood(&words).expect("a command of the documents");
    }
}

/// The anchors of a document's headings, as Markdown renderers derive them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    headings.map(|h| h.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The targets of the links in a document.
fn link_targets(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut count = 0;
    for (path, text) in documents() {
        let folder = path.parent().expect("a folder");
        for target in link_targets(&text).into_iter().filter(|target| !target.starts_with("http")) {
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(file.exists(), "{}: {target} does not exist", path.display());
            let known = anchor.is_empty() || anchors(&read(&file)).iter().any(|known| known == anchor);
            assert!(known, "{}: no heading for {target}", path.display());
        }
    }
    assert!(count > 30, "the documents link to each other");
}

#[test]
fn files_that_the_documents_name_exist() {
    let folders = ["src/", "tests/", "docs/", "contrib/", "systemd/", "man/", "fuzz/", "benches/", ".ci/"];
    let mut count = 0;
    // The changelog names files as they were.
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.ends_with("CHANGELOG.md")) {
        let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        for name in quoted.filter(|name| folders.iter().any(|folder| name.starts_with(folder))) {
            count += 1;
            assert!(root().join(name).exists(), "{} names {name}, which does not exist", path.display());
        }
    }
    assert!(count > 30, "the documents name {count} files");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines; details belong into docs/");
}

/// Does a command hold all the words of another one?
fn includes(command: &str, words: &str) -> bool {
    let command: Vec<&str> = command.split_whitespace().collect();
    words.split_whitespace().all(|word| command.contains(&word))
}

#[test]
fn the_checks_run_the_tests_as_the_readme_says() {
    let (readme, checks) = (read("README.md"), read(".ci/run"));
    let command = readme.lines().find(|line| line.starts_with("cargo test")).expect("README.md has the command");
    assert!(command.contains("--no-fail-fast"), "README.md: `{command}` stops at the first target that fails");
    let whole = checks.lines().filter(|line| line.contains("cargo test") && !line.contains("--test "));
    let unlike: Vec<&str> = whole.clone().filter(|line| !includes(line, command)).collect();
    assert!(whole.count() > 0 && unlike.is_empty(), ".ci/run: {unlike:?}");
}

#[test]
fn units_start_the_program_with_flags_that_it_has() {
    for unit in ["systemd/pagesyncd.service", "systemd/pagesyncd-backup.service"] {
        check_unit(&read(unit));
    }
}

fn check_unit(unit: &str) {
    let starts: Vec<_> = unit.lines().filter_map(|l| l.strip_prefix("ExecStart=")).filter_map(arguments).collect();
    assert!(!starts.is_empty());
    for words in starts {
        understood(&words).expect("ExecStart");
    }
    assert!(unit.lines().any(|l| l == "LimitCORE=0"), "a core file would hold keys");
    let credentials = unit.lines().filter_map(|l| l.strip_prefix("LoadCredential=")?.split(':').next());
    let lacking = missing(&read("config.toml.example"), credentials);
    assert!(lacking.is_empty(), "config.toml.example does not name the credentials {lacking:?}");
}

#[test]
fn no_text_names_a_folder_of_the_machine_it_was_written_on() {
    let skipped = ["target", ".git", "tests", "Cargo.lock"];
    let entries = fs::read_dir(root()).expect("the project").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| !skipped.iter().any(|name| p.ends_with(name))).collect();
    paths = paths.iter().flat_map(|path| files(path)).collect();
    assert!(paths.len() > 50, "the project has files");
    let folders = ["wo\u{72}k", "hom\u{65}", "roo\u{74}", "User\u{73}"].map(|name| format!("/{name}/"));
    let starts = |text: &str, at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._~-}*".contains(c));
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for folder in &folders {
            let found = text.match_indices(folder.as_str()).any(|(at, _)| starts(&text, at));
            assert!(!found, "{} names {folder}", path.display());
        }
    }
}

/// The verbs and flags of a build with every feature.
#[cfg(feature = "sandbox")]
mod whole {
    use super::manual::{escape, held};
    use super::*;

    /// The flags of a verb beside those that every verb has.
    fn own_flags(verb: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
        verb.get_arguments().filter(|a| !a.is_global_set() && !matches!(a.get_id().as_str(), "help" | "version"))
    }

    #[test]
    fn the_reference_has_every_verb_and_flag() {
        let reference = read(REFERENCE);
        let command = pagesyncd::cli::command();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(reference.contains(&format!("`--{flag}")), "{REFERENCE} lacks --{flag}");
        }
        for verb in command.get_subcommands() {
            let start = format!("| `{}", verb.get_name());
            let row = reference.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("{REFERENCE} has no row for {}", verb.get_name()));
            for flag in own_flags(verb).filter_map(clap::Arg::get_long) {
                assert!(row.contains(&format!("--{flag}")), "{REFERENCE}, {}: lacks --{flag}", verb.get_name());
            }
        }
    }

    /// The values of a flag that takes one of a few.
    fn values(argument: &clap::Arg) -> String {
        let values = argument.get_possible_values();
        let names: Vec<String> = values.iter().map(|value| format!("\\fB{}\\fR", escape(value.get_name()))).collect();
        if names.is_empty() || !argument.get_action().takes_values() {
            return String::new();
        }
        format!(" One of {}.", names.join(", "))
    }

    /// The value of a flag as it is written behind the flag; in brackets where it may be left out.
    fn value_of(argument: &clap::Arg, name: &str) -> String {
        let separator = if argument.is_require_equals_set() { "=" } else { " " };
        let value = format!("\\fI{}\\fR", escape(name));
        match argument.get_num_args().is_some_and(|count| count.min_values() == 0) {
            true if separator == "=" => format!("[={value}]"),
            true => format!(" [{value}]"),
            false => format!("{separator}{value}"),
        }
    }

    fn verbs(command: &clap::Command) -> String {
        let mut page = ".SH VERBS\n".to_owned();
        for verb in command.get_subcommands() {
            let usage = own_flags(verb).map(|argument| {
                let value = argument.get_value_names().and_then(|names| names.first()).map(|name| name.to_string());
                let takes = argument.get_action().takes_values();
                let word = match (argument.get_long(), value.filter(|_| takes)) {
                    (Some(flag), Some(value)) => format!("\\-\\-{}{}", escape(flag), value_of(argument, &value)),
                    (Some(flag), None) => format!("\\-\\-{}", escape(flag)),
                    (None, value) => format!("\\fI{}\\fR", escape(&value.unwrap_or_default())),
                };
                if argument.is_required_set() { word } else { format!("[{word}]") }
            });
            let usage: String = usage.map(|word| format!(" {word}")).collect();
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            page += &format!(".TP\n\\fBpagesyncd {}\\fR{usage}\n{}.\n", verb.get_name(), escape(&about));
            for argument in own_flags(verb) {
                let name = argument.get_long().map_or_else(
                    || format!("\\fI{}\\fR", escape(&argument.get_id().as_str().to_uppercase())),
                    |flag| format!("\\fB\\-\\-{}\\fR", escape(flag)),
                );
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let default = argument.get_default_values().first().map(|d| d.to_string_lossy().into_owned());
                let default = default.filter(|_| argument.get_action().takes_values());
                let default = default.map(|d| format!(" (default {})", escape(&d))).unwrap_or_default();
                page += &format!(".RS\n.TP\n{name}\n{}{default}.{}\n.RE\n", escape(&help), values(argument));
            }
        }
        page
    }

    fn man_page() -> String {
        let command = pagesyncd::cli::command();
        let man = clap_mangen::Man::new(command.clone()).section("1").manual("pagesyncd");
        let mut page = Vec::new();
        let rendered = man
            .render_title(&mut page)
            .and_then(|()| man.render_name_section(&mut page))
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page));
        rendered.expect("memory takes it");
        String::from_utf8(page).expect("text") + &verbs(&command) + &read("man/sections.roff")
    }

    #[test]
    fn the_man_page_is_the_programs() {
        let page = man_page();
        held("man/pagesyncd.1", &page);
        assert!(page.contains(concat!("pagesyncd ", env!("CARGO_PKG_VERSION"))), "the page names the version");
    }
}
