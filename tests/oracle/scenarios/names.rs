//! Creating, linking and removing names.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "mkdir in the root, in a lower directory, where a name is",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            mkdir a 755
            mkdir d/a 700
            mkdir d/e/a 1777
            mkdir d 755
            mkdir d/f 755
            mkdir d/s 755
            mkdir x/y 755
            mkdir d/f/y 755
            stat d/a
            readdir d
        ",
    },
    Scenario {
        name: "create with O_EXCL and without, over each kind",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            create d/f 600 excl
            create d/f 600 -
            create d/new 640 excl
            create d/e 644 -
            create d/s 644 excl
            create d/s 644 -
            create x/y 644 -
            create d/f/y 644 -
            stat d/f
            read d/f
            readdir d
        ",
    },
    Scenario {
        name: "create through a dangling symlink",
        lowers: &[
            "
                mkdir d 755
                symlink gone d/s
            ",
        ],
        ops: "
            create d/s 600 excl
            create d/s 600 -
            stat d/gone
            readdir d
        ",
    },
    Scenario {
        name: "create with O_TRUNC of a lower file",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            create d/f 600 trunc
            stat d/f
            read d/f
        ",
    },
    Scenario {
        name: "umask applies to what is made",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            umask 77
            mkdir a 777
            create b 666 excl
            mknod c fifo 666
            create d/n 777 -
            umask 0
            mkdir e 777
            create f 666 -
            stat a
            stat b
            stat e
        ",
    },
    Scenario {
        name: "mknod of each kind",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            mknod d/p fifo 644
            mknod d/k sock 600
            mknod d/r reg 604
            mknod d/c chr:1:3 666
            mknod d/b blk:7:0 660
            mknod d/w chr:0:0 0
            mknod d/f fifo 644
            stat d/p
            stat d/c
            stat d/b
            unlink d/p
            mknod d/p sock 644
        ",
    },
    Scenario {
        name: "special files of a lower",
        lowers: &[
            "
                mknod p fifo 640
                mknod c chr:5:6 600
                mknod k sock 755
            ",
        ],
        ops: "
            stat p
            stat c
            chmod p 600
            chown c 5 6
            utimens k omit 7.000000008
            setxattr p user.x v -
            link p q
            unlink c
            readdir .
        ",
    },
    Scenario {
        name: "symlinks: made, read, replaced, of a lower",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            readlink d/s
            symlink anything/at/all d/t
            readlink d/t
            symlink f d/f
            symlink . d/dot
            stat d/dot
            unlink d/s
            symlink other d/s
            readlink d/s
            readlink d/f
            chown d/s 1 2
            utimens d/t omit 9.000000001
        ",
    },
    Scenario {
        name: "link of a lower file copies it up under both names",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            ino d/f
            link d/f d/h
            ino d/f
            stat d/f
            write d/h 0 LOW
            read d/f
            link d/f d/f
            link d/e x
            link d/gone x
            link d/s t
            readlink t
            unlink d/f
            read d/h
            stat d/h
        ",
    },
    Scenario {
        name: "link over a whiteout",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            unlink d/f
            create n 644 -
            link n d/f
            stat d/f
            unlink d/f
            readdir d
        ",
    },
    Scenario {
        name: "unlink of upper, lower and both",
        lowers: &[
            "
                mkdir d 755
                create d/l 644 -
                create d/b 644 -
            ",
        ],
        ops: "
            write d/b 0 up
            create d/u 644 -
            unlink d/u
            unlink d/l
            unlink d/b
            unlink d/b
            unlink d
            unlink gone
            unlink d/gone/x
            readdir d
            stat d/l
            read d/b
        ",
    },
    Scenario {
        name: "rmdir: full, empty, not a directory",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            rmdir d
            rmdir d/f
            rmdir d/s
            rmdir gone
            rmdir d/e
            unlink d/e/g
            rmdir d/e
            rmdir d/e
            readdir d
            mkdir d/e 700
            readdir d/e
            stat d/e
        ",
    },
    Scenario {
        name: "a removed directory comes back empty",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            unlink d/e/g
            rmdir d/e
            unlink d/s
            unlink d/f
            rmdir d
            mkdir d 711
            readdir d
            create d/new 644 -
            mkdir d/e 755
            readdir d/e
        ",
    },
    Scenario {
        name: "a removed directory comes back as a file, and the file as a directory",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            unlink d/e/g
            rmdir d/e
            create d/e 644 excl
            write d/e 0 now-a-file
            unlink d/e
            mkdir d/e 755
            readdir d/e
            rmdir d/e
            symlink f d/e
            read d/e
        ",
    },
    Scenario {
        name: "a file becomes a directory",
        lowers: &[
            "create a 644 -",
            "
                mkdir a 755
                create a/hidden 644 -
            ",
        ],
        ops: "
            readdir .
            unlink a
            mkdir a 755
            readdir a
            create a/x 644 -
            rmdir a
            unlink a/x
            rmdir a
            create a 600 -
        ",
    },
    Scenario {
        name: "whiteouts are cleared when their directory goes",
        lowers: &[
            "
                mkdir d 755
                create d/a 644 -
                create d/b 644 -
            ",
        ],
        ops: "
            unlink d/a
            unlink d/b
            create d/c 644 -
            rmdir d
            unlink d/c
            rmdir d
            readdir .
        ",
    },
    Scenario {
        name: "names of 255 bytes, too long, and not UTF-8",
        lowers: &["mkdir d 755"],
        ops: "
            create d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 644 -
            create d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn 644 -
            create d/%FF%FE 644 -
            mkdir d/%E9t%E9 755
            rename d/%FF%FE d/%FF%FD -
            mkdir d/a%20b 755
            readdir d
            unlink d/nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn
        ",
    },
    Scenario {
        name: "names that look like AUFS markers to other tools",
        lowers: &["mkdir d 755"],
        ops: "
            create d/wh.a 644 -
            create d/.whx 644 -
            create d/.w 644 -
            readdir d
            unlink d/.whx
        ",
    },
    Scenario {
        name: "sticky directories keep others' files",
        lowers: &[
            "
                mkdir t 1777
                create t/r 644 -
                chmod . 777
            ",
        ],
        ops: "
            as 1000 1000
            create t/mine 644 excl
            unlink t/r
            rename t/r t/x -
            chmod t/r 600
            create r 644 -
            as 1001 1001
            unlink t/mine
            rename t/mine t/y -
            as 1000 1000
            unlink t/mine
            mkdir t/r/x 755
            as 0 0
            unlink t/r
        ",
    },
    Scenario {
        name: "setgid directories give their group",
        lowers: &[
            "
                mkdir g 2775
                chown g 5 6
                chmod g 2777
            ",
        ],
        ops: "
            create g/f 644 -
            mkdir g/d 755
            mknod g/p fifo 644
            symlink x g/s
            stat g/f
            stat g/d
            as 1000 1000
            create g/u 2755 -
            mkdir g/v 755
            stat g/u
            stat g/v
            as 0 0
            stat g/d
        ",
    },
    Scenario {
        name: "no permission",
        lowers: &[
            "
                mkdir p 700
                create p/f 600 -
                mkdir o 755
                create o/f 644 -
                create o/x 600 -
            ",
        ],
        ops: "
            as 1000 1000
            stat p/f
            read p/f
            readdir p
            create p/n 644 -
            create o/n 644 -
            unlink o/f
            write o/f 0 x
            truncate o/f 0
            read o/x
            read o/f
            chmod o/f 777
            chown o/f 1000 1000
            utimens o/f now now
            utimens o/f omit 5.000000000
            setxattr o/f user.a b -
            link o/f o/g
            rename o/f o/g -
            rmdir o
            access o/f 4
            access o/f 2
            access p/f 4
            as 0 0
            access p/f 6
            access o/f 1
        ",
    },
    Scenario {
        name: "trailing dots and slashes",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
        ],
        ops: "
            mkdir d/. 755
            rmdir d/.
            rmdir d/..
            unlink d/f/
            stat d/f/
            stat d/e/
            rename d/e/. x -
            mkdir n/ 755
            rmdir d/e/..
            create c/ 644 -
        ",
    },
];
