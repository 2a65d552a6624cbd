//! Moving names: rename(2) with and without flags.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rename of a file: plain, over a file, onto itself",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
                create d/h 600 -
                write d/h 0 hhhh
            "],
        ops: "
            rename d/f d/n -
            stat d/f
            read d/n
            rename d/n d/h -
            read d/h
            rename d/h d/h -
            rename d/gone d/x -
            rename d/h d/gone/x -
            rename d/h d/e -
            rename d/e d/h -
            readdir d
        ",
    },
    Scenario {
        name: "rename of a lower file within and across directories",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            rename d/f d/e/f -
            read d/e/f
            readdir d
            readdir d/e
            rename d/e/g g -
            read g
            stat g
            rename g d/f -
            readdir .
        ",
    },
    Scenario {
        name: "rename of a file made in the upper leaves nothing behind",
        lowers: &["mkdir d 755"],
        ops: "
            create d/a 644 -
            rename d/a d/b -
            rename d/b c -
            create d/b 644 -
            rename c d/b -
            readdir .
            readdir d
        ",
    },
    Scenario {
        name: "rename over a lower file needs no new whiteout",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            create n 600 -
            write n 0 new
            rename n d/f -
            read d/f
            stat d/f
            unlink d/f
            readdir d
        ",
    },
    Scenario {
        name: "rename of symlinks and special files of a lower",
        lowers: &["
                symlink t s
                mknod p fifo 644
                mknod c chr:1:3 600
            "],
        ops: "
            rename s s2 -
            readlink s2
            rename p p2 -
            stat p2
            rename c s2 -
            stat s2
            readdir .
        ",
    },
    Scenario {
        name: "rename of a lower directory is EXDEV",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            rename d x -
            rename d/e d/y -
            rename d/e y -
            mkdir d/e/n 755
            rename d/e d/y -
            rename d/e/n d/n -
            readdir d
            rename d/n d/e/g -
        ",
    },
    Scenario {
        name: "rename of a directory made in the upper",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            mkdir n 755
            create n/f 644 -
            mkdir n/m 755
            rename n n2 -
            rename n2 d/n -
            readdir d
            readdir d/n
            rename d/n d/n/m/x -
            rename d d/n/x -
            rename d/n d/e -
            unlink d/e/g
            rename d/n d/e -
            readdir d/e
            stat d/e
        ",
    },
    Scenario {
        name: "rename of an upper directory over a removed lower one hides what was there",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            unlink d/e/g
            rmdir d/e
            mkdir n 755
            create n/only 644 -
            rename n d/e -
            readdir d/e
            rename d/e back -
            readdir d
            readdir back
            mkdir d/e 755
            readdir d/e
        ",
    },
    Scenario {
        name: "rename of an upper directory over a lower one with whiteouts only",
        lowers: &["
                mkdir a 755
                create a/x 644 -
                create a/y 644 -
            "],
        ops: "
            mkdir n 700
            create n/z 644 -
            rename n a -
            unlink a/x
            unlink a/y
            rename n a -
            readdir a
            stat a
            readdir .
        ",
    },
    Scenario {
        name: "rename of an opaque directory keeps it opaque",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            unlink d/e/g
            rmdir d/e
            mkdir d/e 755
            create d/e/new 644 -
            rename d/e e2 -
            readdir e2
            mkdir d/e 755
            rename e2 d/e -
            readdir d/e
        ",
    },
    Scenario {
        name: "rename with noreplace",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
                create d/h 644 -
            "],
        ops: "
            rename d/f d/h noreplace
            rename d/f d/e noreplace
            rename d/f d/n noreplace
            rename d/n d/f noreplace
            rename d/gone d/x noreplace
            mkdir m 755
            rename m d noreplace
            rename m m2 noreplace
            readdir d
        ",
    },
    Scenario {
        name: "rename onto a whiteout with noreplace",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            unlink d/f
            create n 644 -
            rename n d/f noreplace
            stat d/f
            readdir d
        ",
    },
    Scenario {
        name: "exchange of files: both lower, lower and upper, both upper",
        lowers: &["
                create a 600 -
                write a 0 aaa
                create b 640 -
                write b 0 bb
            "],
        ops: "
            rename a b exchange
            read a
            read b
            stat a
            create c 644 -
            rename a c exchange
            read c
            rename c gone exchange
            rename a a exchange
            create d 604 -
            rename c d exchange
            readdir .
        ",
    },
    Scenario {
        name: "exchange of a file and a directory",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            mkdir n 755
            create n/in 644 -
            rename n d/f exchange
            readdir d/f
            read n
            rename d/f d/e exchange
            rename n n/x exchange
            readdir d
            unlink d/f/in
            rmdir d/f
        ",
    },
    Scenario {
        name: "exchange of upper directories",
        lowers: &["mkdir l 755"],
        ops: "
            mkdir a 755
            mkdir l/b 700
            create a/1 644 -
            create l/b/2 644 -
            rename a l/b exchange
            readdir a
            readdir l/b
            rename a l exchange
            rename a a/2 exchange
            rmdir l/b
        ",
    },
    Scenario {
        name: "exchange with whiteout flags and unknown mixes",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            create n 644 -
            rename n m whiteout
            rename n d/f exchange,whiteout
            rename n d/f noreplace,exchange
            rename n m noreplace,whiteout
            readdir .
        ",
    },
    Scenario {
        name: "rename in sticky directories",
        lowers: &["
                mkdir t 1777
                create t/r 644 -
                mkdir u 1777
                chmod . 777
            "],
        ops: "
            as 1000 1000
            create u/m 644 -
            rename u/m t/m -
            rename t/m t/r -
            rename t/r u/r -
            rename t/m t/r exchange
            rename t/m m -
            mkdir u/md 755
            rename u/md t/md -
            as 1001 1001
            rename t/md u/md -
            rename m u/m -
        ",
    },
    Scenario {
        name: "rename of what is open",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            open 0 d/f rw
            rename d/f n -
            pwrite 0 0 LOW
            read n
            fchmod 0 600
            stat n
            create x 644 -
            write x 0 other
            rename x n -
            pread 0 0 9
            fstat 0
            pwrite 0 0 still
            pread 0 0 9
            read n
        ",
    },
    Scenario {
        name: "rename over what is open",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            open 0 d/f -
            create n 644 -
            write n 0 new
            rename n d/f -
            pread 0 0 9
            fstat 0
            read d/f
        ",
    },
    Scenario {
        name: "names of one file: rename does nothing",
        lowers: &["mkdir d 755"],
        ops: "
            create a 644 -
            link a b
            rename a b -
            readdir .
            stat a
            rename a b exchange
            link a d/c
            rename d/c a -
            readdir d
            unlink a
            stat b
        ",
    },
    Scenario {
        name: "dot and root do not move",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            rename . x -
            rename d/.. x -
            rename d . -
            rename d/f . -
            rmdir .
        ",
    },
];
