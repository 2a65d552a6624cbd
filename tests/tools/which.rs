//! `ovlmerge which`, on running mounts.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::call::call;
use crate::needs;
use crate::support::process::{output, text};
use crate::support::user::NOBODY;
use crate::support::{Scratch, Setup};

/// The answers about some paths, and the exit status.
#[track_caller]
fn which<P: AsRef<Path>>(paths: &[P]) -> (Vec<Value>, Option<i32>) {
    let words = [OsStr::new("which"), OsStr::new("--json")];
    let output = call(words.into_iter().chain(paths.iter().map(|path| path.as_ref().as_os_str())));
    let answers = serde_json::from_slice(&output.stdout);
    (answers.unwrap_or_else(|err| panic!("{err}: {}", text(&output.stderr))), output.status.code())
}

/// Layer, part and what hides it.
fn levels(answer: &Value) -> Vec<(u64, String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let levels = answer["levels"].as_array().unwrap().iter();
    levels
        .map(|it| (it["layer"].as_u64().unwrap(), word(&it["part"]), word(&it["by"]["what"])))
        .collect()
}

fn level(layer: u64, part: &str, by: &str) -> (u64, String, String) {
    (layer, part.to_owned(), by.to_owned())
}

#[test]
fn where_things_come_from() {
    needs!(mount);
    let s = Scratch::with_lowers(2);
    s.lower(0).file("f", "new").file("d/a", "").symlink("d/l", "nowhere").file("secret", "");
    s.lower(1).file("f", "old").file("d/b", "").file("gone", "").file("dir/deep/x", "");
    s.lower(0).mode("secret", 0);
    let m = s.mount();
    m.mode("f", 0o600).file("fresh", "");
    fs::remove_file(m.path("gone")).unwrap();
    fs::remove_dir_all(m.path("dir")).unwrap();

    let names = ["f", "fresh", "d", "d/l", "secret", ""];
    let (answers, status) = which(&names.map(|name| m.path(name)));
    assert_eq!((answers.len(), status), (6, Some(0)));
    for (answer, name) in answers.iter().zip(names) {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(answer["asked"], m.path(name).to_str().unwrap());
        assert_eq!(answer["path"], format!("/{name}"));
        assert_eq!(answer["ino"], fs::symlink_metadata(m.path(name)).unwrap().ino(), "{name}");
    }
    let [f, fresh, d, l, secret, root] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(
        (&f["type"], &f["upper"], &f["copied_up"]),
        (&json!("file"), &json!(true), &json!(true))
    );
    let expected =
        [level(0, "shown", ""), level(1, "hidden", "object"), level(2, "hidden", "object")];
    assert_eq!(levels(f), expected);
    assert_eq!(f["levels"][1]["file"], s.lower(0).path("f").to_str().unwrap());
    assert_eq!((&f["levels"][1]["role"], &f["left_out"]), (&json!("lower"), &json!(0)));
    assert_eq!((&fresh["copied_up"], &fresh["links"]), (&json!(false), &json!(1)));
    assert_eq!(
        (&d["type"], &d["layer"], &d["metadata_layer"]),
        (&json!("directory"), &json!(1), &json!(1))
    );
    assert_eq!(levels(d), [level(1, "shown", ""), level(2, "merged", "")]);
    assert_eq!((&l["type"], &l["layer"]), (&json!("symlink"), &json!(1)));
    assert_eq!((&secret["data_layer"], &root["levels"][2]["layer"]), (&json!(1), &json!(2)));

    let (answers, status) = which(&["gone", "dir/deep/x", "none"].map(|name| m.path(name)));
    assert_eq!(status, Some(3));
    let expected = [level(0, "whiteout", ""), level(2, "hidden", "whiteout")];
    assert_eq!(levels(&answers[0]), expected);
    assert_eq!((&answers[0]["type"], &answers[0]["path"]), (&Value::Null, &json!("/gone")));
    assert_eq!(answers[0]["levels"][0]["whiteout"], "char");
    assert_eq!(levels(&answers[1]), [level(2, "hidden", "whiteout")]);
    assert_eq!(answers[1]["levels"][0]["by"]["path"], "/dir");
    assert_eq!(levels(&answers[2]), []);
}

/// A link is asked about itself; the way to it may lead through links.
#[test]
fn paths_of_all_sorts() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("d/f", "").symlink("to_d", "d").file("a", "").hard_link("b", "a");
    s.lower(0).file("gone", "");
    let m = s.mount();
    fs::remove_file(m.path("gone")).unwrap();
    let path = |name: &str| which(&[m.path(name)]).0[0]["path"].clone();
    assert_eq!((path("to_d"), path("to_d/")), (json!("/to_d"), json!("/d")));
    assert_eq!((path("to_d/f"), path("to_d/none")), (json!("/d/f"), json!("/d/none")));
    assert_eq!((path("d/.."), path("a"), path("b")), (json!("/"), json!("/a"), json!("/b")));
    // A name that is too long to be asked about in its directory has its object.
    let long = "x".repeat(255);
    m.file(&long, "");
    assert_eq!(path(&long), format!("/{long}"));
    fs::remove_file(m.path(&long)).unwrap();
    let output = call([OsStr::new("which"), m.path(&long).as_os_str()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    // Relative to where the program is.
    let mut words = Command::new(crate::support::binary());
    let output = output_in(words.current_dir(m.root()).args(["which", "d", "gone"]));
    assert_eq!(output.0, Some(3));
    let lines = format!(
        "d: directory of layer 1\n  1 lower shown    {0}/d\ngone: not there\n  \
         0 upper whiteout {1}/gone (form char)\n  \
         1 lower hidden   {0}/gone (by the whiteout of /gone in layer 0)\n",
        s.lower(0).root().display(),
        s.upper.root().display(),
    );
    assert_eq!(output.1, lines);
}

fn output_in(command: &mut Command) -> (Option<i32>, String) {
    let output = output(command);
    (output.status.code(), text(&output.stdout))
}

/// Nothing of it can be opened, but why can be asked.
#[test]
fn a_broken_directory() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).dir("d").xattr("d", "trusted.overlay.redirect", "../x");
    s.lower(0).file("e/x", "");
    let lower = Scratch::new();
    let m = Setup::new(vec![s.lower(0).root().into(), lower.lower(0).root().into()], s.mnt.root())
        .mount();
    let (answers, status) = which(&[m.path("d")]);
    assert_eq!((status, &answers[0]["error"]), (Some(3), &json!("EINVAL")));
    assert_eq!(answers[0]["levels"][0]["error"], "EINVAL");
}

#[test]
fn what_cannot_be_asked() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "");
    let m = s.mount();
    let elsewhere = s.lower(0).path("f");
    for (path, words) in [
        (elsewhere.clone(), "is not on a mount of ovlmerge"),
        (s.lower(0).path("none"), "No such file"),
        (m.path("f/x"), "Not a directory"),
    ] {
        let output = call([OsStr::new("which"), path.as_os_str()]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains(path.to_str().unwrap()), "{said}");
    }
    // The others are answered all the same.
    let (answers, status) = which(&[elsewhere, m.path("f")]);
    assert_eq!((answers.len(), status), (1, Some(1)));
    for wrong in [&["which"][..], &["which", "--xml", "/"]] {
        assert_eq!(call(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let help = text(&call(["which", "--help"]).stdout);
    assert!(help.contains("--json") && help.contains("3 one is not there"), "{help}");
}

/// Names that were deleted are nobody's business in a container.
#[test]
fn strangers_get_no_answer() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "").file("gone", "");
    let m = s.mount();
    fs::remove_file(m.path("gone")).unwrap();
    for stranger in [&["setpriv", "--reuid=65534", "--clear-groups", "--"][..], &["unshare", "-m"]]
    {
        for name in ["f", "gone"] {
            let output = output(
                Command::new(stranger[0])
                    .args(&stranger[1..])
                    .arg(s.program())
                    .arg("which")
                    .arg(m.path(name)),
            );
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stranger:?}");
            let said = text(&output.stderr);
            assert!(!said.contains("lower0") && !said.contains("whiteout"), "{said}");
        }
    }
}

#[test]
fn in_a_user_namespace() {
    needs!(mount, userns, fuse_for_users);
    let s = Scratch::new();
    s.lower(0).file("f", "x").file("gone", "");
    for path in ["", "f", "gone"] {
        s.lower(0).owner(path, NOBODY, NOBODY);
    }
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", NOBODY, NOBODY);
    }
    let script = "\"$1\" -o \"$2\" \"$3\" && chmod 0 \"$3/f\" && rm \"$3/gone\" && \
                  \"$1\" which --json \"$3/f\" \"$3/gone\"; echo $? >&2; umount \"$3\"";
    let output = s.shell_of_nobody(&["unshare", "-Urm"], script);
    assert_eq!(text(&output.stderr), "3\n");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(levels(&answers[0]), [level(0, "shown", ""), level(1, "hidden", "object")]);
    assert_eq!(answers[0]["copied_up"], true);
    assert_eq!(levels(&answers[1]), [level(0, "whiteout", ""), level(1, "hidden", "whiteout")]);
}

/// More layers than an answer can list: the lowest are left out, and that is said.
#[test]
fn more_layers_than_an_answer_holds() {
    needs!(mount);
    let s = Scratch::with_lowers(0);
    let long = "long".repeat(50);
    let lowers: Vec<_> = (0..450).map(|number| s.base().path(format!("l{number}"))).collect();
    for lower in &lowers {
        fs::create_dir_all(lower.join(&long)).unwrap();
        fs::write(lower.join(&long).join("f"), "").unwrap();
    }
    let m = s.setup().lowers(lowers).mount();
    let (answers, status) = which(&[m.path(&long).join("f")]);
    let (told, left) = (levels(&answers[0]).len(), answers[0]["left_out"].as_u64().unwrap());
    assert_eq!((status, told as u64 + left), (Some(0), 450));
    assert!(told > 50 && left > 0, "{told} and {left}");
    let shown = call([OsString::from("which"), m.path(&long).join("f").into_os_string()]);
    assert!(text(&shown.stdout).ends_with(&format!("\n  and {left} more\n")));
}
