//! mount(8), fstab and mount.fuse3, and the command lines of containerd, dockerd, apptainer and
//! SingularityCE.
//!
//! mount(8) looks for programs in directories of its own choice alone, so each script runs in mount
//! namespace of its own, with the program in one of these.

use std::process::Command;

use crate::support::process::{output, pids_with_argument, text, wait_for};
use crate::support::{Scratch, binary};
use crate::{needs, not_the_kernels};

const NO_PROGRAM: &str = "it is no program";

/// Runs a script in the directory of the test, where `m` is the mountpoint and `O` has the options,
/// and returns what it printed. Nothing that it mounts outlives it.
#[track_caller]
fn script(s: &Scratch, script: &str) -> String {
    let setup = "set -e
        mount -t tmpfs tools /usr/local/sbin
        ln -s \"$PROGRAM\" /usr/local/sbin/ovlmerge
        ln -s \"$PROGRAM\" /usr/local/sbin/fuse-overlayfs
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        m=$PWD/mnt
        state() { awk -v m=\"$m\" '$2 == m { print $1, $3, substr($4, 1, 2) }' /proc/self/mounts; }
        ";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{setup}{script}")]);
    command.current_dir(s.base().root()).env("PROGRAM", std::fs::canonicalize(binary()).unwrap());
    command.env("O", s.setup().option_string()).env("LC_ALL", "C");
    let output = output(&mut command);
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), text(&output.stdout));
    let gone = || pids_with_argument(s.mnt.root()).is_empty();
    assert!(wait_for(std::time::Duration::from_secs(10), gone), "the server stays");
    text(&output.stdout)
}

fn scratch() -> Scratch {
    let s = Scratch::new();
    s.lower(0).file("f", "x");
    s
}

#[test]
fn by_type_with_either_name() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for name in ["ovlmerge", "fuse-overlayfs"] {
        let s = scratch();
        let run = format!(
            "mount -t fuse.{name} overlay $m -o $O; state; cat $m/f; echo y > $m/new; umount $m; state"
        );
        assert_eq!(script(&s, &run), format!("overlay fuse.{name} rw\nx"));
        assert_eq!(s.upper.read("new"), "y\n");
    }
}

/// `mount -a` mounts a line once, as it finds its source and target in the list of mounts.
#[test]
fn a_line_of_fstab() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "echo overlay $m fuse.ovlmerge $O,nofail,_netdev,x-systemd.automount 0 0 > fstab
        mount --fstab fstab -a; mount --fstab fstab -a; state; umount $m
        mount --fstab $PWD/fstab $m; cat $m/f; fusermount3 -u $m; state";
    assert_eq!(script(&s, run), "overlay fuse.ovlmerge rw\nx");
}

/// By mount(8) alone (`-i`), and as it calls mount.fuse3, which calls us with `remount`: with what
/// the mount has, or with all that fstab says.
#[test]
fn read_only_and_back_again() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    for by in ["mount -i", "mount", "mount --fstab $PWD/fstab"] {
        let s = scratch();
        let run = format!(
            "echo overlay $m fuse.ovlmerge $O,nofail 0 0 > fstab
            mount -t fuse.ovlmerge overlay $m -o $O,nodev
            {by} -o remount,ro $m; state; (echo no > $m/new) 2>&1 | grep -o 'Read-only file system'
            {by} -o remount,rw $m; state; echo yes > $m/new; umount $m"
        );
        let expected =
            "overlay fuse.ovlmerge ro\nRead-only file system\noverlay fuse.ovlmerge rw\n";
        assert_eq!(script(&s, &run), expected, "{by}");
        assert_eq!(s.upper.read("new"), "yes\n");
    }
}

/// Flags that nobody names stay. As a command of ours, and as `mount.TYPE`.
#[test]
fn a_remount_changes_what_it_names() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run =
        "flags() { awk -v m=\"$m\" '$2 == m { print $4 }' /proc/self/mounts | cut -d, -f1-5; }
        ln -s \"$PROGRAM\" /usr/local/sbin/mount.fuse.ovlmerge
        ovlmerge -o $O,nodev,nosuid,sync $m; flags
        ovlmerge -o remount,noexec,async,timeout=0 $m; flags
        mount.fuse.ovlmerge overlay $m -o remount,ro,exec,suid; flags
        mount.fuse.ovlmerge overlay $m -f -o remount,rw; ovlmerge -o remount,rw,atime $m; flags
        umount $m";
    let expected = "rw,sync,nosuid,nodev,noatime\nrw,nosuid,nodev,noexec,noatime\n\
        ro,nodev,noatime,user_id=0,group_id=0\nrw,nodev,relatime,user_id=0,group_id=0\n";
    assert_eq!(script(&s, run), expected);
}

#[test]
fn remounts_that_cannot_be() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "mount -t fuse.ovlmerge overlay $m -o lowerdir=$PWD/lower0
        fails() { \"$@\" 2>&1 && echo works; true; }
        fails ovlmerge -o remount,rw $m; state
        fails mount -o remount,rw $m; state
        umount $m; fails ovlmerge -o remount,ro $m
        ovlmerge -o $O $m; mkdir $m/d; fails ovlmerge -o remount,ro $m/d
        fails setpriv --reuid=1234 --clear-groups ovlmerge -o remount,ro $m; state; umount $m";
    let said = script(&s, run);
    for words in
        ["cannot be made writable", "not on a mount of ovlmerge", "nothing is mounted", "as root"]
    {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
    assert_eq!(said.matches("cannot be made writable").count(), 2, "{said}");
    assert_eq!(said.matches("fuse.ovlmerge ro\n").count(), 2, "{said}");
    assert!(said.contains("fuse.ovlmerge rw\n") && !said.contains("works"), "{said}");
}

#[test]
fn a_lazy_unmount() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "mount -t fuse.ovlmerge overlay $m -o $O; exec 8> $m/new; umount -l $m; state
        echo late >&8; exec 8>&-";
    assert_eq!(script(&s, run), "");
    assert_eq!(s.upper.read("new"), "late\n");
}

/// The program gets `/dev/fd/N` and no capabilities.
#[test]
fn mount_fuse3_drops_privileges() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "mount.fuse3 overlay $m -o $O -o drop_privileges -t ovlmerge; cat $m/f; umount $m";
    let answer = script(&s, run);
    assert_eq!(answer, "x");
}

/// The snapshotter's probe (two lowers, read-only) and its mounts, the last with owners mapped as
/// labels of the snapshot ask for it.
#[test]
fn as_containerd_does() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    s.base().dir("lower1").dir("lower2").dir("snapshot/fs").dir("snapshot/work");
    let run = "mount.fuse3 overlay $m -o lowerdir=$PWD/lower2:$PWD/lower1 -t fuse-overlayfs; state
        fusermount3 -u $m
        mount.fuse3 overlay $m -o workdir=$PWD/snapshot/work -o upperdir=$PWD/snapshot/fs \
            -o lowerdir=$PWD/lower0:$PWD/lower1 -t fuse-overlayfs
        state; rm $m/f; echo y > $m/new; fusermount3 -u $m
        mount.fuse3 overlay $m -o uidmapping=0:1000:10:10:5000:10 -o gidmapping=0:2000:10 \
            -o workdir=$PWD/snapshot/work -o upperdir=$PWD/snapshot/fs \
            -o lowerdir=$PWD/lower0:$PWD/lower1 -t fuse-overlayfs
        stat -c %u:%g $m/new; fusermount3 -u $m";
    let expected = "overlay fuse.fuse-overlayfs ro\noverlay fuse.fuse-overlayfs rw\n1000:2000\n";
    assert_eq!(script(&s, run), expected);
    assert!(s.base().is_whiteout("snapshot/fs/f"));
    assert_eq!(s.base().read("snapshot/fs/new"), "y\n");
}

#[test]
fn as_dockerd_does() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "fuse-overlayfs -o \"$O\",context='\"u:object_r:c_t:s0:c1,c2\"' $m; state
        cat $m/f; fusermount3 -u $m; rmdir $m; mkdir $m";
    assert_eq!(script(&s, run), "fuse-overlayfs fuse.fuse-overlayfs rw\nx");
}

#[test]
fn as_apptainer_and_singularity_do() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    // Its own process group, in the foreground; the caller looks whether the mount is there.
    let run = "setsid fuse-overlayfs -f -o allow_other,$O,noacl $m > log 2>&1 &
        for try in 1 2 3 4 5 6 7 8 9; do [ -e $m/f ] && break; sleep 0.1; done
        state; sync -f $m; umount $m; wait; cat log";
    assert_eq!(script(&s, run), "fuse-overlayfs fuse.fuse-overlayfs rw\n");
    let run = "fuse-overlayfs -f -o allow_other,ro,lowerdir=$PWD/lower0,noacl $m > log 2>&1 &
        for try in 1 2 3 4 5 6 7 8 9; do [ -e $m/f ] && break; sleep 0.1; done
        state; sync -f $m; umount $m; wait; cat log";
    assert_eq!(script(&s, run), "fuse-overlayfs fuse.fuse-overlayfs ro\n");
    // The mountpoint is the lowest layer too.
    s.base().dir("rootfs/etc");
    let run = "m=$PWD/rootfs
        fuse-overlayfs -o lowerdir=$PWD/lower0:$m,upperdir=$PWD/upper,workdir=$PWD/work $m
        state; ls $m; fusermount3 -u -z $m; state";
    assert_eq!(script(&s, run), "fuse-overlayfs fuse.fuse-overlayfs rw\netc\nf\n");
}

/// mount.fuse3 adds `dev` and `suid` where a line says nothing of them, as mount(8) has it for all
/// file systems. `mount.TYPE` gets no such words.
#[test]
fn devices_and_set_id_bits() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run =
        "flags() { awk -v m=\"$m\" '$2 == m { print $4 }' /proc/self/mounts | cut -d, -f1-3; }
        mount -t fuse.ovlmerge overlay $m -o $O; flags; umount $m
        mount -t fuse.ovlmerge overlay $m -o $O,nodev,nosuid; flags; umount $m
        ln -s \"$PROGRAM\" /usr/local/sbin/mount.fuse.ovlmerge
        mount.fuse.ovlmerge overlay $m -o rw,$O; flags; umount $m";
    let expected = "rw,noatime,user_id=0\nrw,nosuid,nodev\nrw,nodev,noatime\n";
    assert_eq!(script(&s, run), expected);
}

/// mount(8) writes `rw` by itself: nobody is told that it has no effect.
#[test]
fn a_mount_without_an_upper_gives_no_warning() {
    needs!(mount);
    not_the_kernels!(NO_PROGRAM);
    let s = scratch();
    let run = "mount -t fuse.ovlmerge overlay $m -o lowerdir=$PWD/lower0 2>&1; umount $m
        ovlmerge -o rw,lowerdir=$PWD/lower0 $m 2>&1; umount $m";
    let said = script(&s, run);
    assert_eq!(said.matches("no effect").count(), 1, "{said}");
}
