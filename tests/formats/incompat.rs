//! Features of others that we do not know: the mount is refused, and nothing is touched.

use std::os::unix::fs::FileTypeExt;

use crate::needs;
use crate::support::process::text;
use crate::support::{Kernel, Scratch};

const OPTIONS: &str = "redirect_dir=off,metacopy=off,index=off";

/// As the kernel does: `overlay with incompat feature 'x' cannot be mounted` (EINVAL).
#[test]
fn unknown_features_are_refused_as_by_the_kernel() {
    needs_both!();
    for directory in [true, false] {
        let s = Scratch::new();
        s.lower(0).file("f", "lower");
        s.work.dir("work/incompat");
        let feature = "work/incompat/fancy_names";
        match directory {
            true => s.work.dir(feature),
            false => s.work.file(feature, ""),
        };
        let upper = Some((&s.upper, &s.work));
        let refused = Kernel::try_overlay(s.lowers(), upper, &s.mnt, OPTIONS).err();
        assert_eq!(refused, Some(nix::errno::Errno::EINVAL));
        s.work.file("work/#1", "left over");
        let output = s.setup().attempt();
        assert!(!output.status.success());
        let said = text(&output.stderr);
        let workdir = s.work.root().display().to_string();
        for part in [workdir.as_str(), "work/incompat/fancy_names", "\"fancy_names\"", "or remove"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(s.work.exists(feature) && s.work.exists("work/#1"), "nothing is swept");
    }
}

/// An `incompat` with nothing in it forbids nothing, nor does one that is no directory.
#[test]
fn an_incompat_without_features() {
    needs_both!();
    for (kernel, kind) in [(false, "dir"), (true, "dir"), (false, "fifo"), (true, "fifo")] {
        let s = Scratch::new();
        s.lower(0).file("f", "lower").dir("");
        s.work.dir("work");
        match kind {
            "dir" => s.work.dir("work/incompat"),
            _ => s.work.node("work/incompat", nix::sys::stat::SFlag::S_IFIFO, 0, 0),
        };
        let upper = Some((&s.upper, &s.work));
        if kernel {
            let m = Kernel::overlay(s.lowers(), upper, &s.mnt, OPTIONS);
            assert_eq!(m.read("f"), "lower");
        } else {
            assert_eq!(s.mount().read("f"), "lower");
        }
        let left = s.work.path("work/incompat").symlink_metadata();
        assert!(!left.is_ok_and(|left| left.file_type().is_fifo()));
    }
}

/// The kernel refuses any unknown entry of an index; here files that mean nothing hinder nobody.
#[test]
fn unknown_directories_of_an_index() {
    needs!(mount, kernel_overlay);
    let s = Scratch::new();
    s.lower(0).file("f", "lower").hard_link("g", "f");
    s.work.dir("index/fancy");
    let options = "redirect_dir=off,metacopy=off,index=on";
    let upper = Some((&s.upper, &s.work));
    Kernel::try_overlay(s.lowers(), upper, &s.mnt, options).expect_err("the kernel takes it");
    let output = s.setup().option("index=on").attempt();
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("index/fancy"), "{said}");
    let m = s.setup().option("index=auto").mount();
    m.file("f", "written");
    assert!(m.log().contains("index/fancy"), "{}", m.log());
    assert!(s.work.exists("index/fancy"));
}
