//! Layers that are not there, not directories, not readable, or in each other's way.

use std::process::Command;

use super::refusal::{assert_refusal, assert_refused};
use crate::support::process::{output, run};
use crate::support::{LoopFs, Scratch, binary};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it has messages of its own";

#[track_caller]
fn assert_untouched(s: &Scratch) {
    assert!(s.upper.names("").is_empty(), "upper: {:?}", s.upper.names(""));
    assert!(s.work.names("").is_empty(), "work: {:?}", s.work.names(""));
}

#[test]
fn directories_that_do_not_exist() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    let none = s.base().path("none");
    let name = none.to_str().unwrap();
    let lowers = vec![s.lower(0).root().to_owned(), none.clone()];
    assert_refused(&s, &s.setup().lowers(lowers), &["lowerdir", name, "does not exist"]);
    assert_refused(&s, &s.setup().upper(&none), &["upperdir", name, "does not exist"]);
    assert_refused(&s, &s.setup().work(&none), &["workdir", name, "does not exist"]);
    assert_refused(&s, &s.setup().mountpoint(&none), &[name]);
    assert!(!none.exists());
    assert_untouched(&s);
}

#[test]
fn files_in_the_place_of_directories() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().file("file", "content").symlink("dangling", "nowhere").symlink("loop", "loop");
    let file = s.base().path("file");
    let name = file.to_str().unwrap();
    assert_refused(&s, &s.setup().lowers(vec![file.clone()]), &["lowerdir", name, "directory"]);
    assert_refused(&s, &s.setup().upper(&file), &["upperdir", name, "directory"]);
    assert_refused(&s, &s.setup().work(&file), &["workdir", name, "directory"]);
    assert_refused(&s, &s.setup().mountpoint(&file), &[name, "directory"]);
    for odd in ["dangling", "loop"] {
        let lowers = vec![s.base().path(odd)];
        assert_refused(&s, &s.setup().lowers(lowers), &["lowerdir", odd]);
    }
    assert_eq!(s.base().read("file"), "content");
    assert_untouched(&s);
}

#[test]
fn a_layer_that_the_user_may_not_read() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().dir("secret/layer").mode("secret", 0o700);
    for dir in [&s.upper, &s.work, &s.mnt] {
        dir.owner("", 65534, 65534);
    }
    let layer = s.base().path("secret/layer");
    let setup = s.setup().lowers(vec![layer.clone()]);
    let output = output(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(s.program())
            .arg("-o")
            .arg(setup.option_string())
            .arg(s.mnt.root()),
    );
    let words = ["lowerdir", layer.to_str().unwrap(), "ermission"];
    assert_refusal(&s, &output, 1, &words);
    assert_untouched(&s);
}

#[test]
fn an_upper_that_the_user_may_not_write() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.mnt.owner("", 65534, 65534);
    s.work.owner("", 65534, 65534);
    let output = output(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(s.program())
            .arg("-o")
            .arg(s.setup().option_string())
            .arg(s.mnt.root()),
    );
    let upper = s.upper.root().to_str().unwrap();
    assert_refusal(&s, &output, 1, &["upperdir", upper, "ermission"]);
    assert!(s.upper.names("").is_empty());
}

#[test]
fn an_upper_on_a_read_only_file_system() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(16);
    let s = Scratch::new();
    disk.dir().dir("upper").dir("work");
    disk.remount_read_only();
    let (upper, work) = (disk.dir().path("upper"), disk.dir().path("work"));
    let setup = s.setup().upper(&upper).work(&work);
    assert_refused(&s, &setup, &[disk.path().to_str().unwrap(), "ead-only"]);
    // Its content can still be shown.
    drop(s.setup().lowers(vec![upper]).read_only().mount());
}

#[test]
fn upper_and_work_in_each_other() {
    needs!(mount);
    let s = Scratch::new();
    s.base().dir("upper/in").dir("work/in");
    if crate::support::Engine::current() == crate::support::Engine::Kernel {
        return;
    }
    let (upper, work) = (s.upper.root(), s.work.root());
    let cases = [
        (upper, upper.to_owned(), "same"),
        (upper, s.upper.path("in"), "inside"),
        (s.base().root(), upper.to_owned(), "inside"),
    ];
    for (upper, work, why) in cases {
        let setup = s.setup().upper(upper).work(&work);
        assert_refused(&s, &setup, &["upperdir", "workdir", why, work.to_str().unwrap()]);
    }
    let inside = s.work.path("in");
    let setup = s.setup().upper(&inside).work(work);
    assert_refused(&s, &setup, &["upperdir", "inside", inside.to_str().unwrap()]);
    assert_eq!((s.upper.names(""), s.work.names("")), (vec!["in".into()], vec!["in".into()]));
}

#[test]
fn an_upper_or_work_that_is_a_lower_too() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.lower(0).file("f", "x").dir("deep");
    let lower = s.lower(0).root();
    assert_refused(&s, &s.setup().upper(lower), &["lowerdir", "upperdir", "same"]);
    assert_refused(&s, &s.setup().work(lower), &["lowerdir", "workdir", "same"]);
    // The other way round what is changed shows through below.
    let setup = s.setup().upper(lower).lowers(vec![s.lower(0).path("deep")]);
    assert_refused(&s, &setup, &["lowerdir", "upperdir", "inside"]);
    assert_eq!(s.lower(0).names(""), ["deep", "f"]);
}

/// As for the kernel: a lower layer may hold the upper, for example where `/` is the lower layer.
#[test]
fn an_upper_inside_a_lower_is_allowed() {
    needs!(mount);
    let s = Scratch::new();
    s.lower(0).file("f", "x").dir("var/upper").dir("var/work");
    let upper = s.lower(0).path("var/upper");
    let m = s.setup().upper(&upper).work(&s.lower(0).path("var/work")).mount();
    m.file("f", "changed");
    assert_eq!(m.read("f"), "changed");
    assert_eq!(s.lower(0).read("f"), "x");
    assert_eq!(s.lower(0).read("var/upper/f"), "changed");
}

#[test]
fn work_on_another_file_system() {
    needs!(mount, loop_device);
    not_the_kernels!(NO_PROGRAM);
    let disk = LoopFs::ext4(16);
    disk.dir().dir("work");
    let s = Scratch::new();
    let work = disk.dir().path("work");
    let words = ["workdir", work.to_str().unwrap(), "upperdir", "same file system"];
    assert_refused(&s, &s.setup().work(&work), &words);
    assert!(s.upper.names("").is_empty() && disk.dir().names("work").is_empty());
}

/// One file system mounted twice: a rename from one mount to the other fails all the same.
#[test]
fn work_on_another_mount_of_the_same_file_system() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().dir("elsewhere");
    let elsewhere = s.base().path("elsewhere");
    let work = s.work.root().to_str().unwrap();
    run("mount", &["--bind", work, elsewhere.to_str().unwrap()]);
    let output = s.setup().work(&elsewhere).attempt();
    run("umount", &[elsewhere.to_str().unwrap()]);
    assert_refusal(&s, &output, 1, &["workdir", "elsewhere", "upperdir"]);
}

/// A comma ends an option, and a colon a lower: what is left is a path that nobody has written.
#[test]
fn a_name_with_a_comma_or_a_colon_that_is_not_escaped() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().dir("x,y").dir("p:q").dir("q");
    let (x, p) = (s.base().path("x"), s.base().path("p"));
    let (x, p) = (x.display(), p.display());
    let lower = s.lower(0).root().display();
    for (options, name) in [
        (format!("lowerdir={x},y"), format!("is {x},y meant?")),
        (format!("lowerdir={lower},upperdir={x},y,workdir={lower}"), format!("is {x},y meant?")),
        (format!("lowerdir={p}:q"), format!("is {p}:q meant?")),
        (format!("lowerdir={lower}:{p}:q:{lower}"), format!("is {p}:q meant?")),
    ] {
        let mut command = Command::new(binary());
        let output = output(command.arg("-o").arg(options).arg(s.mnt.root()));
        let words = [name.as_str(), r"`\,` for a comma", r"`\:` for a colon"];
        assert_refusal(&s, &output, 1, &words);
    }
    // No other name begins like this one.
    s.base().dir("p");
    let mut command = Command::new(binary());
    let output = output(command.arg("-o").arg(format!("lowerdir={p}:q2")).arg(s.mnt.root()));
    assert_refusal(&s, &output, 1, &["q2: it does not exist"]);
}

/// The beginning of the name is there too: the mount goes on, with a hint.
#[test]
fn a_name_that_is_there_up_to_its_comma() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = Scratch::new();
    s.base().dir("x").dir("x,y");
    let x = s.base().path("x");
    let x = x.display();
    let lower = s.lower(0).root().display();
    let options = format!("lowerdir={x},y");
    let mut command = Command::new(binary());
    let made = output(command.arg("-o").arg(options).arg(s.mnt.root()));
    crate::support::mount::detach(s.mnt.root());
    let said = crate::support::process::text(&made.stderr);
    assert!(said.contains("option `y` is not known"), "{said}");
    assert!(said.contains(&format!("is {x},y meant?")), "{said}");
    // It stands in the first of two names.
    let options = format!("lowerdir={x},y:{lower}");
    let mut command = Command::new(binary());
    let made = output(command.arg("-o").arg(options).arg(s.mnt.root()));
    crate::support::mount::detach(s.mnt.root());
    let said = crate::support::process::text(&made.stderr);
    assert!(said.contains(&format!("is {x},y meant?")), "{said}");
}
