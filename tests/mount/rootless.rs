//! What rootless containers do: all of it as root of a user namespace with a map of many ids.

use super::namespace::{ALL, ROOT, in_namespace, layers};
use crate::support::{LoopFs, Scratch};
use crate::{needs, not_the_kernels};

const WHY: &str = "mounts in a user namespace of its own";

/// What a script says; `$P` is the program, `$O` the options of a mount and `$M` the mountpoint.
fn run(s: &Scratch, script: &str) -> String {
    in_namespace(s, [ALL, ALL], &format!("P=$1 O=$2 M=$3\n{script}"))
}

/// The kernel notes less of where a copy comes from in such a namespace: the two names were two
/// files, and what was written to one was missing in the other.
#[test]
fn one_object_is_one_file_without_the_kernels_marks() {
    needs!(mount, root, userns, kernel_overlay);
    not_the_kernels!(WHY);
    for look in
        ["stat -c %h $M/d/g $M/f", "stat -c %h $M/f $M/d/g", "ls -lR $M >/dev/null; echo 2; echo 2"]
    {
        let s = layers();
        s.lower(0).file("f", "old\n").owner("f", ROOT, ROOT);
        let said = run(
            &s,
            &format!(
                "$P -o $O $M; chmod 600 $M/f; $P umount $M
                mount -t overlay -o userxattr,$O overlay $M; mkdir $M/d; ln $M/f $M/d/g; umount $M
                $P -o $O $M; {look}
                [ $(stat -c %i $M/f) = $(stat -c %i $M/d/g) ] && echo one
                echo 1 >>$M/f; echo 2 >>$M/d/g; echo 3 >>$M/f; cat $M/f; cmp $M/f $M/d/g
                $P umount $M; $P -o $O $M; cat $M/d/g; $P umount $M"
            ),
        );
        assert_eq!(said, "2\n2\none\nold\n1\n2\n3\nold\n1\n2\n3\n", "{look}");
    }
}

/// Container storage gives files to another user, and makes the other names anew.
#[test]
fn names_of_a_copy_are_counted() {
    needs!(mount, root, userns);
    not_the_kernels!(WHY);
    let changes = ["chown 5:5 a", "chmod 600 a", "echo x >>a", "touch -d 2001-01-01 a"];
    let removals = ["rm b", "echo n >n; mv n b; rm b", "cp c n; mv n b; rm b"];
    for option in ["index=off", "index=on"] {
        for change in changes {
            for remove in removals {
                let s = layers();
                s.lower(0).file("a", "x").hard_link("b", "a").hard_link("c", "a");
                s.lower(0).owner("a", ROOT, ROOT);
                let said = run(
                    &s,
                    &format!(
                        "$P -o $O,{option} $M; cd $M; {change}
                        exec 3<a; {remove}; ln a b; {remove}; ln a b; exec 3<&-
                        [ $(stat -c %i a) = $(stat -c %i b) ] && echo one; cmp a b; cd /
                        $P umount $M; $P -o $O,{option} $M; cmp $M/a $M/b && echo same; $P umount $M"
                    ),
                );
                assert_eq!(said, "one\nsame\n", "{option}: {change}; {remove}");
            }
        }
    }
}

/// The disk below has what was written when the server has gone, whatever ended the mount.
#[test]
fn what_was_written_is_on_the_disk_when_the_server_has_gone() {
    needs!(mount, root, userns, loop_device);
    not_the_kernels!(WHY);
    let ends = [
        "umount $M; wait $S",
        "umount -l $M; wait $S",
        "kill $S; wait $S",
        "kill -INT $S; wait $S",
        "$P umount $M",
    ];
    for end in ends {
        // With room for the program.
        let disk = LoopFs::ext4(400);
        let s = Scratch::in_dir(disk.path(), 1);
        disk.dir().owner("", ROOT, ROOT);
        for dir in [s.base(), s.lower(0), &s.upper, &s.work, &s.mnt] {
            dir.owner("", ROOT, ROOT);
        }
        s.lower(0).file("old", "old").owner("old", ROOT, ROOT);
        let said = run(
            &s,
            &format!(
                "$P -f -o $O $M & S=$!
                until [ -e $M/old ]; do sleep 0.1; done
                head -c 8000000 /dev/zero >$M/new; echo more >>$M/old
                {end} || :"
            ),
        );
        assert_eq!(said, "", "{end}");
        let after = disk.on_disk();
        let upper = s.upper.root().strip_prefix(disk.path()).unwrap();
        let upper = after.dir().sub(upper);
        assert_eq!(
            (upper.stat("new").len(), upper.read("old").as_str()),
            (8_000_000, "oldmore\n"),
            "{end}"
        );
    }
}

/// A container is started while somebody sits in its old mount.
#[test]
fn a_second_mount_of_one_upper() {
    needs!(mount, root, userns);
    not_the_kernels!(WHY);
    let s = layers();
    s.lower(0).file("f", "x").owner("f", ROOT, ROOT);
    s.base().dir("other").owner("other", ROOT, ROOT);
    let said = run(
        &s,
        "N=${M%/*}/other
        $P -f -o $O $M & S=$!
        until [ -e $M/f ]; do sleep 0.1; done
        $P -o $O $N 2>$N.said; grep -q \"process $S \" $N.said && echo named; echo 1 >$N/new; $P umount $N
        $P -o $O,index=on $N 2>$N.said || grep -q \"process $S \" $N.said && echo named
        $P -o $O --strict $N 2>$N.said || grep -q \"process $S \" $N.said && echo named
        $P -o $O,ro $N; cat $N/f; echo; cat $N/new; $P umount $N
        echo more >>$M/f; cat $M/f; kill $S; wait $S || :",
    );
    assert_eq!(said, "named\nnamed\nnamed\nx\n1\nxmore\n");
}
