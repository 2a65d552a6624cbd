//! How layers are put together: merging, whiteouts, opaque directories.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "directories merge, files of upper layers win",
        lowers: &[
            "
                mkdir d 700
                create d/a 600 -
                write d/a 0 top
            ",
            "
                mkdir d 755
                create d/a 644 -
                write d/a 0 below
                create d/b 644 -
                mkdir d/e 755
            ",
            "
                mkdir d 777
                create d/c 644 -
                mkdir d/e 711
                create d/e/f 644 -
                create d/e2 644 -
            ",
        ],
        ops: "
            readdir d
            read d/a
            readdir d/e
            stat d
            stat d/e
            create d/n 644 -
            readdir d
            chmod d/e 700
            stat d/e
        ",
    },
    Scenario {
        name: "a file hides a directory, and what is below that",
        lowers: &[
            "
                create a 644 -
                mkdir b 755
            ",
            "
                mkdir a 755
                create a/x 644 -
                create b 644 -
            ",
            "
                mkdir b 755
                create b/y 644 -
                mkdir a 755
            ",
        ],
        ops: "
            readdir .
            stat a
            stat a/x
            readdir b
            unlink a
            stat a
            mkdir a 755
            readdir a
            create b/y 644 excl
            rmdir b
        ",
    },
    Scenario {
        name: "whiteouts of lowers hide",
        lowers: &[
            "
                mkdir d 755
                whiteout d/a
                whiteout e
            ",
            "
                mkdir d 755
                create d/a 644 -
                create d/b 644 -
                mkdir e 755
                create e/x 644 -
            ",
        ],
        ops: "
            readdir .
            readdir d
            stat d/a
            stat e/x
            create d/a 600 excl
            read d/a
            mkdir e 700
            readdir e
            rmdir e
            unlink d/a
            readdir d
        ",
    },
    Scenario {
        name: "a name comes back in a layer above its whiteout",
        lowers: &[
            "
                create a 644 -
                write a 0 third
                mkdir d 755
                create d/new 644 -
            ",
            "
                whiteout a
                whiteout d
            ",
            "
                create a 644 -
                write a 0 first
                mkdir d 755
                create d/old 644 -
            ",
        ],
        ops: "
            read a
            readdir d
            unlink a
            readdir .
            unlink d/new
            rmdir d
            mkdir d 755
            readdir d
        ",
    },
    Scenario {
        name: "opaque directories of lowers",
        lowers: &[
            "
                mkdir d 755
                opaque d
                create d/top 644 -
            ",
            "
                mkdir d 755
                create d/below 644 -
                mkdir d/e 755
            ",
        ],
        ops: "
            readdir d
            stat d/below
            mkdir d/e 755
            readdir d/e
            create d/below 644 excl
            unlink d/below
            unlink d/top
            rmdir d/e
            readdir d
            rmdir d
            mkdir d 755
            readdir d
        ",
    },
    Scenario {
        name: "opaque in the middle layer",
        lowers: &[
            "
                mkdir d 755
                create d/1 644 -
            ",
            "
                mkdir d 755
                opaque d
                create d/2 644 -
                mkdir d/e 755
                create d/e/x 644 -
            ",
            "
                mkdir d 755
                create d/3 644 -
                mkdir d/e 755
                create d/e/y 644 -
            ",
        ],
        ops: "
            readdir d
            readdir d/e
            unlink d/1
            unlink d/2
            unlink d/e/x
            rmdir d/e
            readdir d
            rmdir d
            readdir .
        ",
    },
    Scenario {
        name: "an opaque directory within an opaque one",
        lowers: &[
            "
                mkdir d 755
                mkdir d/e 755
                create d/e/1 644 -
            ",
            "
                mkdir d 755
                opaque d
                mkdir d/e 755
                opaque d/e
                create d/e/2 644 -
            ",
            "
                mkdir d 755
                mkdir d/e 755
                create d/e/3 644 -
            ",
        ],
        ops: "
            readdir d/e
            rename d/e/2 d/2 -
            readdir d/e
            readdir d
        ",
    },
    Scenario {
        name: "a whiteout where nothing is below",
        lowers: &[
            "
                mkdir d 755
                whiteout d/never
                whiteout nor
            ",
            "create x 644 -",
        ],
        ops: "
            stat d/never
            create d/never 644 excl
            unlink d/never
            mkdir nor 755
            rmdir nor
            readdir .
            rmdir d
        ",
    },
    Scenario {
        name: "a directory that holds only whiteouts can be removed",
        lowers: &[
            "
                mkdir d 755
                whiteout d/a
                whiteout d/b
            ",
            "
                mkdir d 755
                create d/a 644 -
                create d/b 644 -
            ",
        ],
        ops: "
            readdir d
            rmdir d
            stat d
            mkdir d 755
            readdir d
        ",
    },
    Scenario {
        name: "rm -rf and again, three times",
        lowers: &[
            "
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            ",
            "
                mkdir d 755
                create d/z 644 -
                mkdir d/e 755
                create d/e/zz 644 -
            ",
        ],
        ops: "
            unlink d/e/g
            unlink d/e/zz
            rmdir d/e
            unlink d/f
            unlink d/s
            unlink d/z
            rmdir d
            mkdir d 755
            mkdir d/e 755
            create d/e/1 644 -
            unlink d/e/1
            rmdir d/e
            rmdir d
            mkdir d 700
            create d/f 600 -
            unlink d/f
            rmdir d
            readdir .
        ",
    },
    Scenario {
        name: "a removed name in a copied directory, then a listing",
        lowers: &["
                mkdir d 755
                create d/a 644 -
                create d/b 644 -
                create d/c 644 -
            "],
        ops: "
            readdir d
            open 0 d dir
            fdreaddir 0
            unlink d/b
            create d/x 644 -
            readdir d
            fdreaddir 0
            unlink d/x
            create d/b 644 -
            readdir d
            fdreaddir 0
        ",
    },
    Scenario {
        name: "looked up absent, then made, then gone",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            stat d/n
            create d/n 644 -
            stat d/n
            unlink d/n
            stat d/n
            mkdir d/n 755
            stat d/n/x
            create d/n/x 644 -
            stat d/n/x
        ",
    },
    Scenario {
        name: "an empty lower",
        lowers: &["chmod . 755", "chmod . 700"],
        ops: "
            readdir .
            stat .
            mkdir a 755
            create a/b 644 -
            readdir a
        ",
    },
    Scenario {
        name: "the root: its metadata is the upper's",
        lowers: &[
            "
                chmod . 700
                setxattr . user.low v -
                chown . 5 6
            ",
            "
                create x 644 -
                chmod . 711
            ",
        ],
        ops: "
            stat .
            listxattr .
            chmod . 751
            chown . 1 2
            setxattr . user.up w -
            utimens . omit 3.000000004
            stat .
            listxattr .
        ",
    },
    Scenario {
        name: "deep paths over three layers",
        lowers: &[
            "
                mkdir a 755
                mkdir a/b 755
                create a/b/1 644 -
            ",
            "
                mkdir a 755
                mkdir a/b 755
                mkdir a/b/c 755
                create a/b/c/2 644 -
            ",
            "
                mkdir a 755
                mkdir a/b 755
                mkdir a/b/c 755
                mkdir a/b/c/d 755
                create a/b/c/d/3 644 -
            ",
        ],
        ops: "
            write a/b/c/d/3 0 deep
            stat a/b/c/d
            stat a/b/c
            stat a
            readdir a/b
            readdir a/b/c
            unlink a/b/c/2
            readdir a/b/c
        ",
    },
];
