//! Reads `src/` and fails on an import that the order of the layers forbids.
//!
//! `domain < (config, telemetry, seeded) < store < cluster < actors < edge < (app, cli, lifecycle, main)`:
//! what stands further left never names what stands further right. Some layers may not name certain
//! crates either. Comments, strings and `#[cfg(test)]` items do not count.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers from left to right; those in one row may name each other.
const ORDER: &[&[&str]] = &[
    &["domain"],
    &["config", "telemetry", "seeded"],
    &["store"],
    &["cluster"],
    &["actors"],
    &["edge"],
    &["app", "cli", "lifecycle", "main", "lib"],
];

/// Crates of `Cargo.toml` that the domain may name; each other one is forbidden there.
const DOMAIN_CRATES: &[&str] =
    &["serde", "serde_json", "thiserror", "utoipa", "uuid", "chrono", "unicode_normalization"];

/// What a layer must not name, as beginnings of paths.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "domain",
        &[
            "std::env",
            "std::fs",
            "std::future",
            "std::io",
            "std::net",
            "std::os",
            "std::process",
            "std::sync::mpsc",
            "std::task",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    ),
    ("config", &["tokio", "ractor", "sqlx", "axum", "reqwest"]),
    ("telemetry", &["ractor", "sqlx", "reqwest"]),
    ("store", &["ractor", "axum", "utoipa_axum", "tower_http", "reqwest"]),
    ("cluster", &["axum", "utoipa_axum", "tower_http"]),
    ("actors", &["axum", "utoipa_axum", "tower_http", "sqlx", "reqwest"]),
    ("edge", &["ractor", "sqlx"]),
];

/// Addresses are data; only sockets are I/O.
const PERMITTED: &[(&str, &[&str])] = &[("domain", &["std::net::IpAddr", "std::net::SocketAddr"])];

#[test]
fn no_layer_imports_what_stands_to_its_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    let mut faults = Vec::new();
    for file in files {
        let name = file.strip_prefix(root.join("src")).unwrap().to_str().unwrap().replace('\\', "/");
        faults.extend(violations(&name, &fs::read_to_string(&file).unwrap(), &crates));
    }
    assert!(faults.is_empty(), "forbidden imports:\n{}", faults.join("\n"));
}

#[test]
fn the_scanner_finds_each_planted_violation() {
    let planted = [
        ("domain/a.rs", "use crate::store::Stores;", "store"),
        ("domain/a.rs", "use crate::{domain::id, actors::{Engine}};", "actors"),
        ("domain/a/b.rs", "use super::super::super::edge::router;", "edge"),
        ("domain/a.rs", "fn f() -> u8 { crate::config::load() }", "config"),
        ("domain/a.rs", "async fn f() { tokio::time::sleep(d).await }", "tokio"),
        ("domain/a.rs", "use std::{collections::BTreeMap, fs};", "std::fs"),
        ("domain/a.rs", "use std::time::{Duration, SystemTime};", "std::time::SystemTime"),
        ("domain/a.rs", "fn f() { let _ = std::net::TcpStream::connect(a); }", "std::net::TcpStream"),
        ("domain/a.rs", "fn f() { ::rand::random::<u8>(); }", "rand"),
        ("config/mod.rs", "pub use crate::store::Stores as Kept;", "store"),
        ("telemetry/mod.rs", "use super::store;", "store"),
        ("store/a.rs", "use ractor::{Actor, ActorRef};", "ractor"),
        ("store/a.rs", "#[derive(axum::extract::FromRef)] struct A;", "axum"),
        ("cluster/mod.rs", "use crate::actors::Engine;", "actors"),
        ("actors/a.rs", "use crate as eml; use {reqwest::Client, crate::domain::id};", "reqwest"),
        ("actors/a.rs", "fn f(x: <crate::edge::Form as T>::Out) {}", "edge"),
        ("edge/a/b.rs", "extern crate sqlx;", "sqlx"),
        ("edge/a.rs", "use r#ractor as r;", "ractor"),
        ("edge/a.rs", "const A: &str = \"//\"; use crate::app::run;", "app"),
        ("edge/a.rs", "const A: char = '\"'; use crate::cli::run; const B: char = '\"';", "cli"),
        ("edge/a.rs", "#[cfg(test)] mod tests { fn f() { \"}\"; } } use crate::cli::run;", "cli"),
        ("edge/a.rs", "#[cfg(test)] use crate::domain::id; use crate::cli::run;", "cli"),
        ("domain/a.rs", "use crate::elsewhere::Thing;", "elsewhere"),
        ("elsewhere/a.rs", "use crate::domain::id;", "elsewhere"),
    ];
    for (file, source, expected) in planted {
        let found = violations(file, source, &some_crates());
        assert!(!found.is_empty(), "{file}: {source}");
        assert!(found.iter().all(|fault| fault.contains(&format!("`{expected}"))), "{source}: {found:?}");
    }
}

#[test]
fn the_scanner_leaves_permitted_text_alone() {
    let permitted = [
        ("domain/a.rs", "// use crate::store::Stores;\n/* tokio::spawn /* ractor::x */ sqlx::y */"),
        ("domain/a.rs", "//! [`crate::actors::Engine`]\n/// crate::edge::router\nstruct A;"),
        ("domain/a.rs", "const A: &str = \"crate::store::X \\\" tokio::spawn\";"),
        ("domain/a.rs", "const A: &str = r#\"tokio::\"spawn\"#; const B: &[u8] = br\"sqlx::query\";"),
        ("domain/a.rs", "fn f<'a>(x: &'a str) -> &'a str { x } // '\"' tokio::spawn"),
        ("domain/a.rs", "#[cfg(test)]\nmod tests {\n use tokio::x; fn f() { { sqlx::y() } } }"),
        ("domain/a.rs", "#[cfg(test)] #[path = \"x.rs\"] mod far; #[cfg(test)] use tokio::x;"),
        ("domain/a/tests.rs", "use tokio::x;"),
        ("domain/a.rs", "use std::{fmt, net::IpAddr, time::Duration}; use serde::Serialize;"),
        ("domain/a/b.rs", "use super::super::id::CallId; fn f() { super::tokio::x(); }"),
        ("store/a.rs", "use crate::{config::Store, domain::id, telemetry::Metrics}; use sqlx::query;"),
        ("actors/a.rs", "use ractor::Actor; use crate::store::Stores;"),
        ("edge/a.rs", "use axum::Router; use crate::actors::Engine; use reqwest::Client;"),
        ("main.rs", "fn main() { eml::app::run(eml::cli::parse()) }"),
    ];
    for (file, source) in permitted {
        assert_eq!(violations(file, source, &some_crates()), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn the_names_of_all_dependencies_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na-b = \"1\"\nc = { version = \"2\" }\n\
                    [dev-dependencies]\nd.workspace = true\n[lints.rust]\ne = \"deny\"\n";
    let expected = ["a_b", "c", "d"].map(str::to_owned);
    assert_eq!(dependencies(manifest), BTreeSet::from(expected));
}

fn some_crates() -> BTreeSet<String> {
    ["tokio", "ractor", "sqlx", "axum", "reqwest", "rand", "serde"].map(str::to_owned).into()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// The crates that `Cargo.toml` names, spelt as in code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut is_inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]");
        } else if let (true, Some((key, _))) = (is_inside, line.split_once('=')) {
            names.insert(key.split('.').next().unwrap_or(key).trim().replace('-', "_"));
        }
    }
    names
}

/// What a file names although its layer must not; `file` is its path below `src/`.
fn violations(file: &str, source: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let layer = module[0];
    if module.contains(&"tests") {
        return Vec::new();
    }
    let Some(rank) = rank(layer) else {
        return vec![format!("{file}: `{layer}` has no place in the order of the layers")];
    };
    let module: Vec<&str> = match module.split_last() {
        Some((&("mod" | "lib" | "main"), folders)) => folders.to_vec(),
        _ => module,
    };
    let named: BTreeSet<String> = paths(&without_tests(&tokens(source)))
        .iter()
        .map(|path| resolve(path, &module))
        .filter(|path| is_forbidden(path, layer, rank, crates))
        .map(|path| path.strip_prefix("crate::").map_or(path.clone(), str::to_owned))
        .collect();
    named.iter().map(|path| format!("{file}: `{path}` is not for `{layer}`")).collect()
}

fn rank(layer: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&layer))
}

fn is_forbidden(path: &str, layer: &str, own: usize, crates: &BTreeSet<String>) -> bool {
    let starts = |beginning: &&str| {
        path.strip_prefix(*beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let of_layer = |table: &[(&str, &'static [&'static str])]| {
        table.iter().filter(|(name, _)| *name == layer).flat_map(|(_, paths)| *paths).any(starts)
    };
    if let Some(inner) = path.strip_prefix("crate::") {
        let target = inner.split("::").next().unwrap_or(inner);
        // Items of `lib.rs` itself are for the wiring alone, as are macros at the root.
        return rank(target).is_none_or(|rank| rank > own);
    }
    let root = path.split("::").next().unwrap_or(path);
    let is_unknown_to_domain = layer == "domain" && crates.contains(root) && !DOMAIN_CRATES.contains(&root);
    is_unknown_to_domain || (of_layer(FORBIDDEN) && !of_layer(PERMITTED))
}

/// The same path from the root of the crate when it starts at `super`, `self` or our own name.
fn resolve(path: &[String], module: &[&str]) -> String {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate" | "eml") => {
            base.clear();
            rest = &path[1..];
        }
        Some("self") => rest = &path[1..],
        Some("super") => {}
        _ => return path.join("::"),
    }
    while rest.first().is_some_and(|segment| segment == "super") {
        base.pop();
        rest = &rest[1..];
    }
    let segments = base.into_iter().chain(rest.iter().map(String::as_str)).collect::<Vec<_>>();
    if segments.is_empty() { String::new() } else { format!("crate::{}", segments.join("::")) }
}

/// Words, `::` and single other characters; comments, strings and lifetimes are left out.
fn tokens(source: &str) -> Vec<String> {
    let text: Vec<char> = source.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => comment(rest),
            ['"', ..] => string(rest),
            ['\'', ..] => quote(rest),
            [':', ':', ..] => {
                found.push("::".to_owned());
                2
            }
            [first, ..] if first.is_alphabetic() || *first == '_' => word(rest, &mut found),
            [first, ..] => {
                if !first.is_whitespace() {
                    found.push(first.to_string());
                }
                1
            }
            [] => 1,
        };
        at += length;
    }
    found
}

/// Takes a word, or a raw or byte string that begins like one.
fn word(rest: &[char], found: &mut Vec<String>) -> usize {
    let length = rest.iter().position(|c| !c.is_alphanumeric() && *c != '_').unwrap_or(rest.len());
    let name: String = rest[..length].iter().collect();
    let hashes = rest[length..].iter().take_while(|c| **c == '#').count();
    let quoted = rest.get(length + hashes) == Some(&'"');
    match name.as_str() {
        "r" | "br" | "cr" if quoted => {
            let body = &rest[length + hashes + 1..];
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let end = body.windows(close.len()).position(|part| part == close).unwrap_or(body.len());
            (length + hashes + 1 + end + close.len()).min(rest.len())
        }
        "r" if hashes == 1 => length + 1,
        _ => {
            found.push(name);
            length
        }
    }
}

fn comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character, or only the mark of a lifetime.
fn quote(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, tail @ ..] => tail.iter().position(|c| *c == '\'').map_or(1, |end| end + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

/// The same without items under `#[cfg(test)]`.
fn without_tests(all: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < all.len() {
        if all[at..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            at = end_of_item(all, at + MARK.len());
        } else {
            kept.push(all[at].clone());
            at += 1;
        }
    }
    kept
}

/// One past the item that begins here: its `;`, or the `}` of its body.
fn end_of_item(all: &[String], start: usize) -> usize {
    let is_use = all[start..].iter().take(8).take_while(|token| *token != ";").any(|token| token == "use");
    let mut depth = 0_usize;
    for (at, token) in all.iter().enumerate().skip(start) {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token == "}" && !is_use {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    all.len()
}

/// Every path: groups of `use` spelt out, and chains with `::` anywhere else.
fn paths(all: &[String]) -> Vec<Vec<String>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < all.len() {
        match all[at].as_str() {
            "use" => at = tree(all, at + 1, &[], &mut found),
            "crate" if at > 0 && all[at - 1] == "extern" => {
                found.extend(all.get(at + 1).map(|name| vec![name.clone()]));
                at += 2;
            }
            token if is_word(token) => {
                let mut path = vec![all[at].clone()];
                at += 1;
                while at + 1 < all.len() && all[at] == "::" && is_word(&all[at + 1]) {
                    path.push(all[at + 1].clone());
                    at += 2;
                }
                if path.len() > 1 {
                    found.push(path);
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one branch of a `use`; gives the place after it.
fn tree(all: &[String], start: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let (mut path, mut at) = (base.to_vec(), start);
    while at < all.len() {
        match all[at].as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while at < all.len() && all[at] != "}" {
                    at = tree(all, at, &path, found);
                    if all.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 2,
            token if is_word(token) => {
                path.push(all[at].clone());
                at += 1;
            }
            "*" => at += 1,
            _ => break,
        }
    }
    found.push(path);
    // Never stands still, whatever the text is.
    at.max(start + usize::from(at == start))
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
