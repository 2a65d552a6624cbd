//! One function for each rule.

use std::fmt;

use crate::source::{Source, is_word_byte, item_end, line_of, words};

/// The longest line, in characters.
pub const LINE_CHARS: usize = 100;

/// The longest function, from its `fn` to its closing brace.
pub const FUNCTION_LINES: usize = 70;

/// The longest file.
pub const FILE_LINES: usize = 600;

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    pub path: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn at_line(source: &Source, line: usize, what: impl fmt::Display) -> Violation {
    Violation { path: source.path.clone(), line, what: what.to_string() }
}

fn at(source: &Source, position: usize, what: impl fmt::Display) -> Violation {
    at_line(source, line_of(&source.code, position), what)
}

/// Something that may be larger than the rule allows.
pub struct Exception {
    pub path: &'static str,
    /// Name of the function; empty for a file.
    pub item: &'static str,
    pub reason: &'static str,
}

pub fn long_lines(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().zip(source.code.lines());
    (1..)
        .zip(lines)
        .filter(|(_, (text, code))| text.chars().count() > LINE_CHARS && !is_text(text, code))
        .map(|(line, (text, _))| at_line(source, line, format!("{} chars", text.chars().count())))
        .collect()
}

/// Whether it is a string, or a row of a table, that makes the line long: nobody can wrap it.
fn is_text(text: &str, code: &str) -> bool {
    let words = text.trim_start().trim_start_matches(['/', '!']);
    if text.trim_start().starts_with("//") {
        return words.trim_start().starts_with('|');
    }
    let short =
        |code: &str| code.trim_end_matches([' ', ';', ',', ')', ']', '}']).len() <= LINE_CHARS;
    let comment = text.rsplit('"').next().is_some_and(|last| last.contains("//"));
    short(code) && !comment
}

pub fn long_files(sources: &[Source], exceptions: &[Exception]) -> Vec<Violation> {
    let sizes = sources.iter().map(|source| {
        let lines = source.text.lines().count();
        (source, 1, String::new(), lines)
    });
    too_long(sizes, FILE_LINES, exceptions)
}

pub fn long_functions(sources: &[Source], exceptions: &[Exception]) -> Vec<Violation> {
    let sizes = sources.iter().flat_map(|source| {
        functions(source).into_iter().map(move |(line, name, lines)| (source, line, name, lines))
    });
    too_long(sizes, FUNCTION_LINES, exceptions)
}

/// What is above the limit without an exception, and exceptions without something above it.
fn too_long<'a>(
    sizes: impl Iterator<Item = (&'a Source, usize, String, usize)>,
    limit: usize,
    exceptions: &[Exception],
) -> Vec<Violation> {
    let mut needed = vec![false; exceptions.len()];
    let mut found = Vec::new();
    for (source, line, name, lines) in sizes.filter(|(.., lines)| *lines > limit) {
        let known = exceptions.iter().position(|e| e.path == source.path && e.item == name);
        match known {
            Some(known) => needed[known] = true,
            None => found.push(at_line(source, line, format!("{name} has {lines} lines"))),
        }
    }
    for (exception, _) in exceptions.iter().zip(needed).filter(|(_, needed)| !needed) {
        found.push(Violation {
            path: exception.path.to_owned(),
            line: 1,
            what: format!("exception no longer needed: {} ({})", exception.item, exception.reason),
        });
    }
    found
}

/// Line, name and number of lines of every function with a body.
fn functions(source: &Source) -> Vec<(usize, String, usize)> {
    let code = source.code.as_bytes();
    let mut found = Vec::new();
    for start in words(&source.code, "fn") {
        let rest = source.code[start + 2..].trim_start();
        let name: String = rest.bytes().take_while(|b| is_word_byte(*b)).map(char::from).collect();
        let end = item_end(code, start);
        // A type such as `fn(u8)` has no name, a method that a trait asks for has no body.
        if !name.is_empty() && code[end - 1] == b'}' {
            let (first, last) = (line_of(&source.code, start), line_of(&source.code, end - 1));
            found.push((first, name, last - first + 1));
        }
    }
    found
}

pub fn unsafe_outside_sys(source: &Source) -> Vec<Violation> {
    if source.path.starts_with("src/sys/") {
        return Vec::new();
    }
    words(&source.code, "unsafe").map(|i| at(source, i, "unsafe outside of src/sys")).collect()
}

pub fn unsafe_without_reason(source: &Source) -> Vec<Violation> {
    let lines: Vec<&str> = source.text.lines().collect();
    words(&source.code, "unsafe")
        .filter(|&i| !has_reason(&lines, line_of(&source.code, i) - 1))
        .map(|i| at(source, i, "unsafe without a SAFETY comment above it"))
        .collect()
}

/// Whether a comment with `SAFETY:` stands above the statement that a line is part of.
fn has_reason(lines: &[&str], line: usize) -> bool {
    let mut in_comment = false;
    for above in lines[..line].iter().rev().map(|line| line.trim()) {
        if above.starts_with("//") {
            in_comment = true;
            if above.starts_with("// SAFETY:") {
                return true;
            }
        } else if in_comment || above.ends_with([';', '{', '}', ',']) || above.is_empty() {
            return false;
        }
    }
    false
}

pub fn dropped_results(source: &Source) -> Vec<Violation> {
    let binds_nothing = |i: &usize| {
        let rest = source.code[i + "let".len()..].trim_start();
        let rest = rest.strip_prefix('_').map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with(['=', ':']))
    };
    words(&source.code, "let")
        .filter(binds_nothing)
        .map(|i| at(source, i, "a result is dropped: use it, or best_effort"))
        .collect()
}

pub fn unwraps(source: &Source) -> Vec<Violation> {
    [".unwrap()", ".expect("]
        .into_iter()
        .flat_map(|call| source.shipped.match_indices(call))
        .map(|(i, call)| at(source, i, format!("{call} outside of tests")))
        .collect()
}

/// Where descriptors may be made otherwise: before the mount, and taken over from others.
const BEFORE_THE_MOUNT: [&str; 5] = [
    "src/sys/descriptors.rs",
    "src/sys/daemon.rs",
    "src/sys/locks.rs",
    "src/sys/mount.rs",
    "src/sys/uuid.rs",
];

/// What makes a descriptor without asking others to give way if there is no room.
pub fn descriptors_past_the_gate(source: &Source) -> Vec<Violation> {
    let below = ["src/sys/", "src/layer/", "src/merge/", "src/vfs/", "src/control/", "src/fuse/"];
    let is_below = below.iter().any(|dir| source.path.starts_with(dir));
    if !is_below || BEFORE_THE_MOUNT.contains(&&*source.path) {
        return Vec::new();
    }
    let lets_in = |i: usize| {
        let statement = source.shipped[..i].rsplit(';').next().unwrap_or_default();
        statement.contains("with_room(") || statement.contains("opened(")
    };
    [
        "from_raw_fd(",
        "fs::open(",
        "openat(",
        "open_tree(",
        "File::open(",
        "File::options(",
        "fs::read",
        "pipe2(",
        "Epoll::new(",
        "try_clone(",
    ]
    .into_iter()
    .flat_map(|call| source.shipped.match_indices(call))
    .filter(|(i, _)| *i == 0 || !is_word_byte(source.shipped.as_bytes()[i - 1]))
    // A link is read without a descriptor (`read_link`, `readlinkat_raw`).
    .filter(|(i, call)| {
        let rest = source.shipped[i + call.len()..].trim_start_matches('_');
        !rest.starts_with("link") && !lets_in(*i)
    })
    .map(|(i, call)| at(source, i, format!("{call} past the gate of sys/descriptors.rs")))
    .collect()
}

/// What changes a layer, by the name of the call.
const CHANGES: [&str; 25] = [
    "fs::mkdirat(",
    "fs::mknodat(",
    "fs::symlinkat(",
    "fs::linkat(",
    "fs::unlinkat(",
    "fs::renameat(",
    "fs::renameat_with(",
    "SYS_fchmodat2,",
    "fs::chmod(",
    "fs::chownat(",
    "fs::futimens(",
    "fs::utimensat(",
    "OFlag::O_TMPFILE |",
    "io::pwrite(",
    "libc::truncate(",
    "fs::ftruncate(",
    "fs::fallocate(",
    "fs::copy_file_range(",
    "fs::ioctl_ficlone(",
    "SYS_SETXATTRAT,",
    "fs::lsetxattr(",
    "SYS_REMOVEXATTRAT,",
    "fs::lremovexattr(",
    "ioctl_setflags(",
    "FSSETXATTR.into()",
];

/// A change of a layer by a function that does not ask whether the request was given up.
pub fn changes_past_the_commit(source: &Source) -> Vec<Violation> {
    let layers = ["at", "copy", "dir", "file", "handle", "ioctl", "stat", "trail", "xattr"];
    if !layers.iter().any(|file| source.path == format!("src/sys/{file}.rs")) {
        return Vec::new();
    }
    let asks = |i: usize| {
        let function = source.shipped[..i].rsplit("\npub fn ").next().unwrap_or_default();
        function.contains("before_change()?")
    };
    CHANGES
        .into_iter()
        .flat_map(|call| source.shipped.match_indices(call))
        .filter(|(i, _)| !asks(*i))
        .map(|(i, call)| at(source, i, format!("{call} without before_change of sys/commit.rs")))
        .collect()
}

/// Who may say that something is not in a lower: the layers themselves, and the tools that rewrite
/// a layer which nobody has mounted.
const VOUCHERS: [&str; 5] = [
    "src/sys/",
    "src/layer/",
    "src/tools/apply/stage.rs",
    "src/tools/check/",
    "src/tools/convert/",
];

/// The right to change something, made by code that cannot know whether it is in a lower.
pub fn rights_to_change(source: &Source) -> Vec<Violation> {
    if VOUCHERS.iter().any(|voucher| source.path.starts_with(voucher)) {
        return Vec::new();
    }
    let made = source.shipped.match_indices("::vouch");
    made.map(|(i, _)| at(source, i, "WritableFd::vouch outside of the layers")).collect()
}

/// Directories of whoever wrote it, in code, strings or comments.
pub fn machine_paths(source: &Source) -> Vec<Violation> {
    let text = source.shipped_text();
    ["/work/", "/tmp/", "/home/", "/root/"]
        .into_iter()
        .flat_map(|path| text.match_indices(path))
        // Part of a longer path, relative or below something else.
        .filter(|(i, _)| {
            let before = i.checked_sub(1).map(|i| text.as_bytes()[i]);
            before.is_none_or(|b| !is_word_byte(b) && b != b'/' && b != b'}')
        })
        .map(|(i, path)| at(source, i, format!("a path of some machine: {path}")))
        .collect()
}

pub fn missing_head(source: &Source) -> Vec<Violation> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![at_line(source, 1, "the file does not begin with a //! line that says what it is for")]
}

/// Doc comments that mean nothing where they are read alone, as rustdoc shows them.
pub fn docs_that_lean(source: &Source) -> Vec<Violation> {
    (1..)
        .zip(source.text.lines())
        .filter(|(_, line)| line.trim_start().starts_with("/// The same"))
        .filter(|(line, _)| {
            let before =
                usize::checked_sub(*line, 2).and_then(|before| source.text.lines().nth(before));
            before.is_none_or(|before| !before.trim_start().starts_with("///"))
        })
        .map(|(line, text)| at_line(source, line, format!("the same as what? {}", text.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("src/vfs/x.rs", text)
    }

    #[test]
    fn a_long_line_is_found() {
        assert!(long_lines(&source(&"é".repeat(100))).is_empty());
        let found = long_lines(&source(&format!("short\n{}\n", "x".repeat(101))));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, &*found[0].what), (2, "101 chars"));
        let x = "x".repeat(101);
        assert!(long_lines(&source(&format!("f(\"{x}\");"))).is_empty(), "a string");
        assert!(long_lines(&source(&format!("f(\"\n{x}\n\");"))).is_empty(), "of many lines");
        assert!(long_lines(&source(&format!("//! | a | {x} |"))).is_empty(), "a row of a table");
        assert_eq!(long_lines(&source(&format!("// {x}"))).len(), 1, "a comment");
        assert_eq!(long_lines(&source(&format!("f(\"\"); // {x}"))).len(), 1, "behind code");
    }

    fn exception(item: &'static str) -> Exception {
        Exception { path: "src/vfs/x.rs", item, reason: "a reason" }
    }

    #[test]
    fn a_long_file_is_found_and_exceptions_must_be_needed() {
        let (short, long) = (source(&"//\n".repeat(600)), source(&"//\n".repeat(601)));
        assert!(long_files(&[short], &[]).is_empty());
        assert_eq!(long_files(&[long], &[]).len(), 1);
        let long = source(&"//\n".repeat(601));
        assert!(long_files(&[long], &[exception("")]).is_empty());
        assert_eq!(long_files(&[source("//")], &[exception("")]).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_and_exceptions_must_be_needed() {
        let text = |lines: usize| {
            let body = "    x([1; 2]);\n".repeat(lines - 2);
            format!(
                "trait T {{ fn a(b: [u8; 3]); }}\nfn long(a: [u8; 4]) {{\n{body}}}\nfn b() {{}}"
            )
        };
        assert!(long_functions(&[source(&text(70))], &[]).is_empty());
        let found = long_functions(&[source(&text(71))], &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, &*found[0].what), (2, "long has 71 lines"));
        assert!(long_functions(&[source(&text(71))], &[exception("long")]).is_empty());
        assert_eq!(long_functions(&[source(&text(70))], &[exception("long")]).len(), 1);
    }

    #[test]
    fn unsafe_elsewhere_is_found() {
        let text = "// unsafe\nfn f() { g(\"unsafe\"); unsafe { h() } }";
        assert_eq!(unsafe_outside_sys(&source(text)).len(), 1);
        assert!(unsafe_outside_sys(&Source::new("src/sys/x.rs", text)).is_empty());
        assert!(unsafe_outside_sys(&source("#![allow(unsafe_code)]")).is_empty());
    }

    #[test]
    fn unsafe_without_a_reason_is_found() {
        let good = "// SAFETY: of\n// two lines\nlet x =\n    f(unsafe { y });\n";
        assert!(unsafe_without_reason(&source(good)).is_empty());
        for bad in [
            "let x = unsafe { y };",
            "// SAFETY: of another\na();\nlet x = unsafe { y };",
            "// SAFETY: of another\na();\n// a word\nlet x = unsafe { y };",
            "// SAFETY: of the first\nunsafe { a() };\nunsafe { b() };",
        ] {
            assert_eq!(unsafe_without_reason(&source(bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_dropped_result_is_found() {
        assert_eq!(dropped_results(&source("let _ = f();")).len(), 1);
        assert_eq!(dropped_results(&source("let _: Result<()> = f();")).len(), 1);
        assert!(dropped_results(&source("let _guard = f(); // let _ = f()")).is_empty());
    }

    #[test]
    fn an_unwrap_outside_of_tests_is_found() {
        assert_eq!(descriptors_past_the_gate(&source("fn f() { File::open(p)?; }")).len(), 1);
        assert!(
            descriptors_past_the_gate(&source("fn f() { with_room(|| File::open(p))?; }"))
                .is_empty()
        );
        assert_eq!(unwraps(&source("fn f() { a().unwrap() }")).len(), 1);
        assert_eq!(unwraps(&source("fn f() { a().expect(\"b\") }")).len(), 1);
        assert!(unwraps(&source("fn f() { a().unwrap_or(1) } // .unwrap()")).is_empty());
        assert!(unwraps(&source("#[cfg(test)]\nmod t { fn f() { a().unwrap() } }")).is_empty());
    }

    #[test]
    fn a_change_that_commits_to_nothing_is_found() {
        let found = |body: &str| {
            let text = format!("\npub fn f() {{ before_change()?; }}\npub fn g() {{ {body} }}");
            changes_past_the_commit(&Source::new("src/sys/at.rs", &text)).len()
        };
        assert_eq!(found("fs::mkdirat(a)?"), 1);
        assert_eq!(found("before_change()?; fs::mkdirat(a)?"), 0);
    }

    #[test]
    fn a_right_to_change_from_elsewhere_is_found() {
        let text = "fn f() { at::unlink(WritableFd::vouch(dir), name) }";
        let found = |path: &str| rights_to_change(&Source::new(path, text)).len();
        assert_eq!(found("src/vfs/remove.rs"), 1);
        assert_eq!(found("src/tools/diff/walk.rs"), 1);
        assert_eq!(found("src/layer/work.rs"), 0);
    }

    #[test]
    fn a_doc_comment_that_leans_on_another_is_found() {
        assert_eq!(docs_that_lean(&source("/// The same for files.\nfn f() {}")).len(), 1);
        assert!(docs_that_lean(&source("/// # Errors\n/// The same\nfn f() {}")).is_empty());
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        for bad in ["f(\"/tmp/x\")", "// see /work/notes", "f(\"/home/me/x\")"] {
            assert_eq!(machine_paths(&source(bad)).len(), 1, "{bad}");
        }
        for good in ["// WORKDIR/work/incompat", "f(\"var/tmp/x\")", "f(tmp / work / 2)"] {
            assert!(machine_paths(&source(good)).is_empty(), "{good}");
        }
        assert!(machine_paths(&source("#[cfg(test)]\nmod t { f(\"/tmp/x\") }")).is_empty());
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        assert!(missing_head(&source("//! What it is for.\n")).is_empty());
        assert_eq!(missing_head(&source("use x;\n//! Too late.\n")).len(), 1);
        assert_eq!(missing_head(&source("// Not for rustdoc.\n")).len(), 1);
    }
}
