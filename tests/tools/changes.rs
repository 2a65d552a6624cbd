//! `ovlmerge diff --changes`.

use crate::call::printed;
use crate::needs;
use crate::support::Scratch;
use crate::support::scratch::not_text;

fn scene() -> Scratch {
    let s = Scratch::new();
    s.lower(0).file("etc/changed", "1").file("etc/gone", "").file("opaque/in", "").file("same", "");
    s.upper.file("etc/changed", "2").whiteout("etc/gone").file("etc/added", "");
    s.upper.opaque_dir("opaque").file("new/a", "");
    s
}

#[test]
fn letters_as_podman_prints_them() {
    needs!(root);
    let wanted = "C /\nC /etc\nD /etc/gone\nA /etc/added\nC /etc/changed\nA /new\nA /new/a\n\
                  C /opaque\nD /opaque/in\n";
    assert_eq!(printed(&scene(), &["--changes"]), wanted);
    assert_eq!(printed(&scene(), &["--changes", "--opaque=marker"]), wanted);
}

#[test]
fn as_json() {
    needs!(root);
    let said: serde_json::Value =
        serde_json::from_str(&printed(&scene(), &["--changes", "--json"])).unwrap();
    assert_eq!(said["deleted"], serde_json::json!(["/etc/gone", "/opaque/in"]));
    assert_eq!(said["added"], serde_json::json!(["/etc/added", "/new", "/new/a"]));
    assert_eq!(said["changed"], serde_json::json!(["/", "/etc", "/etc/changed", "/opaque"]));
}

#[test]
fn names_that_cannot_be_printed_are_escaped() {
    needs!(root);
    let s = Scratch::new();
    s.upper.file(not_text("b"), "").file("line\nbreak", "").file("\u{e9}", "");
    let wanted = "C /\nA /b\\xff\\xfe\\x80\nA /line\\nbreak\nA /\u{e9}\n";
    assert_eq!(printed(&s, &["--changes"]), wanted);
}
