//! `ovlmerge generate`: the programs that read its files take them.

use std::path::Path;
use std::process::Command;

use super::refusal::assert_refusal;
use crate::support::need::program;
use crate::support::process::{output, text};
use crate::support::{Scratch, binary};
use crate::{not_the_kernels, test_name};

const NO_PROGRAM: &str = "it is no program";

/// The files, in a directory of the test.
fn generate(s: &Scratch) -> std::path::PathBuf {
    let dir = s.base().path("pages");
    let answer = output(Command::new(binary()).arg("generate").arg(&dir));
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    dir
}

/// Runs a script with the files in its working directory, and returns what it printed.
#[track_caller]
fn shell(program: &str, dir: &Path, script: &str) -> String {
    let answer = output(Command::new(program).args(["-c", script]).current_dir(dir));
    let complaints = text(&answer.stderr);
    assert!(answer.status.success() && complaints.is_empty(), "{complaints}");
    text(&answer.stdout)
}

#[test]
fn man_takes_the_pages() {
    if !program(test_name!(), "man") {
        return;
    }
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let dir = generate(&s);
    for page in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_none_or(|extension| extension != "1") {
            continue;
        }
        let mut man = Command::new("man");
        // One line for each paragraph, so that no word is cut.
        man.args(["--warnings", "-l"]).arg(&page).env("MANWIDTH", "10000").env("LC_ALL", "C.UTF-8");
        let answer = output(&mut man);
        assert!(answer.status.success(), "{page:?}");
        assert_eq!(text(&answer.stderr), "", "{page:?}");
        let shown = text(&answer.stdout);
        assert!(shown.contains("SYNOPSIS") && shown.contains("OPTIONS"), "{page:?}");
    }
}

/// Bash cuts its words at `=` and `:`, and replaces the last piece alone.
#[test]
fn bash_completes_mount_options() {
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().dir("pages/layer1").dir("pages/layer2");
    let dir = generate(&s);
    for (line, expected) in [
        ("ovlmerge -o low", "lowerdir= lowerdir+="),
        ("ovlmerge -fo lowe", "lowerdir= lowerdir+="),
        ("ovlmerge diff -o upp", "upperdir="),
        ("ovlmerge -o volatile,xin", "volatile,xino=on volatile,xino=off volatile,xino=auto"),
        ("ovlmerge -o xino=a", "auto"),
        ("ovlmerge -oxino=o", "on off"),
        ("ovlmerge -o lowerdir=/a:lay", "layer1 layer2"),
        ("ovlmerge -o lowerdir=/a,upperdir=lay", "layer1 layer2"),
        ("ovlmerge che", "check"),
        ("ovlmerge convert --to ker", "kernel kernel-user"),
    ] {
        let script = format!(
            "source ovlmerge.bash
            COMP_LINE='{line}' COMP_POINT={} COMP_WORDBREAKS=$' \\t\\n=:'
            COMP_WORDS=($COMP_LINE) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _ovlmerge_command ovlmerge \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"
            echo \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        let mut found: Vec<_> =
            shell("bash", &dir, &script).split_whitespace().map(str::to_owned).collect();
        let mut expected: Vec<_> = expected.split(' ').map(str::to_owned).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn fish_and_zsh_take_theirs() {
    if !program(test_name!(), "fish") {
        return;
    }
    if !program(test_name!(), "zsh") {
        return;
    }
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let dir = generate(&s);
    let mut fish = Command::new("fish");
    fish.env("HOME", s.base().root()).env("XDG_CONFIG_HOME", s.base().root()).current_dir(&dir);
    fish.args(["-c", "source ovlmerge.fish; complete -C 'ovlmerge -o volatile,low'"]);
    let answer = output(&mut fish);
    let shown = text(&answer.stdout);
    assert!(shown.contains("volatile,lowerdir=\t"), "{shown}{}", text(&answer.stderr));
    shell("zsh", &dir, "zsh -n _ovlmerge");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().file("file", "");
    let mut command = Command::new(binary());
    command.arg("generate").arg(s.base().path("file/pages"));
    assert_refusal(&s, &output(&mut command), 1, &["generate", "file/pages"]);
}
