//! Who mounts: with a capability mount(2), without it the helper, wherever that is installed.

use std::process::{Command, Output};

use crate::support::Scratch;
use crate::support::process::{output, text};
use crate::support::user::NOBODY;
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// All the capabilities of a user namespace, and a user who is not 0: how apptainer calls.
const CAPABLE: [&str; 5] = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount"];

fn scratch() -> Scratch {
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    for dir in [&s.upper, &s.work, &s.mnt, s.lower(0)] {
        dir.owner("", NOBODY, NOBODY);
    }
    s.lower(0).owner("f", NOBODY, NOBODY);
    s
}

fn said(output: &Output) -> String {
    format!("{} {} {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// It was "Permission denied" and no more.
#[test]
fn a_layer_that_may_not_be_searched_is_named() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    for (option, closed) in [("lowerdir", 0), ("upperdir", 1), ("workdir", 2)] {
        let s = scratch();
        let dir = [s.lower(0), &s.upper, &s.work][closed];
        dir.owner("", if closed == 0 { 0 } else { NOBODY }, 0)
            .mode("", if closed == 0 { 0o700 } else { 0 });
        let output = s.shell_of_nobody(&[], r#""$1" -o "$2" "$3""#);
        let said = said(&output);
        let place = format!("{option}={}: it cannot be searched", dir.root().display());
        assert!(!output.status.success() && said.contains(&place), "{said}");
    }
}

/// The helper would refuse: /etc/fuse.conf has no `user_allow_other`, and it is not looked for.
#[test]
fn a_capability_is_enough_whoever_has_it() {
    needs!(mount, fuse_for_users, userns);
    not_the_kernels!(NO_PROGRAM);
    for options in ["allow_other,noacl", "allow_other,noacl,suid,dev"] {
        let s = scratch();
        let script = format!(
            r#"set -e; m=$3
            "$1" -f -o "allow_other,$2,{options}" "$m" & server=$!
            for i in $(seq 200); do grep -q " $m " /proc/self/mounts && break; sleep 0.05; done
            grep " $m " /proc/self/mounts; id -u
            cat "$m/f"; mkdir -m 555 "$m/d"; echo new >"$m/new"; stat -c '%u %a' "$m/new"
            kill -TERM $server; wait $server; ! grep " $m " /proc/self/mounts"#
        );
        let output = s.shell_of_nobody(&CAPABLE, &script);
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("allow_other") && said.contains("65534 644"), "{said}");
        assert_eq!(said.contains("nosuid"), !options.contains("suid"), "{said}");
        assert_eq!(s.upper.read("new"), "new\n");
    }
}

/// In the background, ended from outside by unmounting it.
#[test]
fn a_capable_user_mounts_in_the_background_too() {
    needs!(mount, fuse_for_users, userns);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let script = r#"set -e; "$1" -o "$2" "$3"; grep " $3 " /proc/self/mounts; cat "$3/f"
        "$1" stat "$3" >/dev/null; "$1" which "$3/f" >/dev/null
        "$1" -o remount,ro "$3"; ! echo x 2>/dev/null >"$3/new""#;
    let output = s.shell_of_nobody(&CAPABLE, script);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    // Who is not user 0 shares it with nobody unless told to, and lends nobody's rights.
    assert!(said.contains("nosuid") && !said.contains("allow_other"), "{said}");
}

/// A service or a container tool may pass no PATH at all. The helper is needed at both ends.
#[test]
fn the_helper_is_found_without_a_path() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    for environment in ["env -i", "env -i PATH=", "env -i PATH=.:/nowhere"] {
        let s = scratch();
        let script = format!(
            r#"set -e; m=$3
            {environment} "$1" -f -o "$2" "$m" & server=$!
            for i in $(seq 200); do grep -q " $m " /proc/self/mounts && break; sleep 0.05; done
            cat "$m/f"; kill -TERM $server; wait $server; ! grep " $m " /proc/self/mounts"#
        );
        let output = s.shell_of_nobody(&[], &script);
        assert!(output.status.success(), "{environment}: {}", said(&output));
        assert_eq!(text(&output.stdout), "x", "{environment}");
    }
}

/// Where it is nowhere, both reasons are told: why mount(2) refuses, and what to install.
#[test]
fn without_the_helper_the_way_out_is_named() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let hide = r#"for at in /usr/bin /bin /usr/local/bin /usr/sbin /sbin; do
            for name in fusermount3 fusermount; do
                [ ! -e $at/$name ] || mount --bind /dev/null $at/$name
            done
        done
        exec setpriv --reuid=65534 --regid=65534 --clear-groups "$1" -o "$2" "$3""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(s.program());
    let output = output(command.arg(s.setup().option_string()).arg(s.mnt.root()));
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("install the package fuse3"), "{said}");
    assert!(said.contains("ermission") || said.contains("ermitted"), "{said}");
}

/// fusermount3 mounts with `nosuid` and `nodev` for all but root.
#[test]
fn what_the_helper_does_not_give_is_told() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    for (option, told) in
        [("suid,dev", true), ("suid,dev,auto_unmount", true), ("nosuid,nodev", false)]
    {
        let s = scratch();
        let script = format!(r#"set -e; "$1" -o "$2,{option}" "$3"; "$1" umount "$3""#);
        let output = s.shell_of_nobody(&[], &script);
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        for word in ["suid", "dev"] {
            let warning = format!("option `{word}` has no effect");
            assert_eq!(said.contains(&warning), told, "{option}: {said}");
        }
    }
}

/// What the helper says has an errno of its own, and was followed by another.
#[test]
fn a_refusal_of_the_helper_is_one_sentence() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    s.mnt.owner("", 0, 0);
    let refused = said(&s.shell_of_nobody(&[], r#""$1" -o "$2" "$3""#));
    let place = s.mnt.root().display();
    for words in
        [&*format!("mounting on {place}: fusermount3: "), "give the directory to this user"]
    {
        assert!(refused.contains(words), "no `{words}` in {refused}");
    }
    s.mnt.owner("", NOBODY, NOBODY);
    let script =
        r#""$1" -o "$2" "$3"; exec 5<"$3/f"; "$1" umount "$3"; exec 5<&-; "$1" umount "$3""#;
    let busy = said(&s.shell_of_nobody(&[], script));
    assert!(busy.contains(&format!("{place} is in use")) && busy.contains("os error 16"), "{busy}");
    assert_eq!(busy.matches("os error").count(), 1, "{busy}");
}

/// The directory that was named is the user's own: what root's mount has left in it is not.
#[test]
fn a_workdir_that_another_user_has_used() {
    needs!(mount, fuse_for_users);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    drop(s.mount());
    let output = s.shell_of_nobody(&[], r#""$1" -o "$2" "$3""#);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("its directory `work` belongs to user 0"), "{said}");
    assert!(said.contains("workdir="), "{said}");
}
