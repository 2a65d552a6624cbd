//! Modes, owners, times, extended attributes.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chmod, chown and times of a lower file copy it up as it was",
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
            chmod d/f 604
            stat d/f
            read d/f
            chown d/e/g 7 8
            stat d/e/g
            utimens d/s omit 77.000000001
            stat d/s
            stat d
            stat d/e
        ",
    },
    Scenario {
        name: "chmod, chown and times of lower directories",
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
            chmod d/e 700
            stat d/e
            chown d 4 5
            stat d
            utimens d 1.000000001 2.000000002
            stat d
            readdir d/e
            stat d/e/g
        ",
    },
    Scenario {
        name: "times before 1970 and after 2038",
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
            utimens d/f -5.000000000 -1.000000001
            stat d/f
            utimens d/f omit 4102444800.999999999
            stat d/f
            utimens d/e 0.000000000 0.000000000
            stat d/e
            utimens d/f 1.000000000 omit
            stat d/f
            utimens d/f now omit
            stat d/f
            utimens d/f omit omit
            stat d/f
            utimens d/f omit now
            stat d/f
        ",
    },
    Scenario {
        name: "omit, omit on a lower file",
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
            utimens d/f omit omit
            stat d/f
            utimens d omit omit
            stat d
        ",
    },
    Scenario {
        name: "the parent's time does not change by copy-up of a child",
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
            chmod d/e/g 600
            stat d/e
            stat d
            stat .
            write d/f 0 x
            stat d
            create d/new 644 -
            stat d
            unlink d/new
            stat d
        ",
    },
    Scenario {
        name: "modes with all bits",
        lowers: &[
            "
                create f 6755 -
                chmod f 6755
                mkdir d 3777
            ",
        ],
        ops: "
            stat f
            chmod f 7777
            stat f
            chmod d 7777
            stat d
            chmod f 0
            stat f
            read f
            chmod gone 644
        ",
    },
    Scenario {
        name: "chown clears setuid and setgid",
        lowers: &[
            "
                create f 755 -
                chmod f 6755
                create g 644 -
                chmod g 2644
                create h 777 -
                chmod h 6777
            ",
        ],
        ops: "
            chown f 0 0
            stat f
            chown g 1 1
            stat g
            chown h -1 -1
            stat h
            chown gone 1 1
        ",
    },
    Scenario {
        name: "write by another clears setuid and setgid",
        lowers: &[
            "
                create f 755 -
                chmod f 6777
                create g 755 -
                chmod g 6777
                create h 777 -
                chmod h 6777
                chmod . 777
            ",
        ],
        ops: "
            as 1000 1000
            write f 0 x
            stat f
            truncate g 0
            stat g
            create h 600 trunc
            stat h
            as 0 0
            chmod f 6777
            write f 0 root
            stat f
        ",
    },
    Scenario {
        name: "setgid is dropped by a chmod from outside the group",
        lowers: &[
            "
                create f 755 -
                chown f 1000 7
                create g 755 -
                chown g 1000 1000
            ",
        ],
        ops: "
            as 1000 1000
            chmod f 2755
            stat f
            chmod g 2755
            stat g
            chown g -1 5
            chown g -1 1000
            chmod g 4755
            stat g
        ",
    },
    Scenario {
        name: "write drops file capabilities",
        lowers: &[
            "
                create f 755 -
                write f 0 abc
                setxattr f security.capability %01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00 -
                create g 755 -
                setxattr g security.capability %01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00 -
            ",
        ],
        ops: "
            getxattr f security.capability
            chmod f 700
            getxattr f security.capability
            write f 0 x
            getxattr f security.capability
            chown g 1 1
            getxattr g security.capability
            listxattr g
        ",
    },
    Scenario {
        name: "xattrs: set, replace, create, remove, list",
        lowers: &[
            "
                create f 644 -
                setxattr f user.low one -
                mkdir d 755
                setxattr d user.dir two -
            ",
        ],
        ops: "
            listxattr f
            getxattr f user.low
            setxattr f user.low x create
            setxattr f user.none x replace
            setxattr f user.new x create
            setxattr f user.low changed replace
            listxattr f
            removexattr f user.low
            removexattr f user.low
            getxattr f user.low
            listxattr f
            setxattr d user.more v -
            listxattr d
            removexattr d user.dir
            listxattr d
            setxattr gone user.a b -
            getxattr f user.none
            setxattr f user.empty x*0 -
            getxattr f user.empty
            setxattr f user.big v*3000 -
            getxattr f user.big
        ",
    },
    Scenario {
        name: "xattrs: failing ones change nothing",
        lowers: &[
            "
                create f 644 -
                setxattr f user.low one -
                mknod p fifo 644
            ",
        ],
        ops: "
            setxattr f user.low x create
            setxattr f user.none x replace
            removexattr f user.none
            setxattr f bad x -
            setxattr f nospace.x x -
            setxattr f user. x -
            setxattr p user.x v -
            stat f
        ",
    },
    Scenario {
        name: "xattrs: of each namespace",
        lowers: &[
            "
                create f 644 -
                symlink f s
                setxattr f trusted.t v -
                setxattr f security.test v -
            ",
        ],
        ops: "
            listxattr f
            getxattr f trusted.t
            setxattr f trusted.n v -
            setxattr s trusted.s v -
            setxattr s user.s v -
            setxattr f security.more v -
            listxattr f
            listxattr s
            removexattr f trusted.t
            removexattr f trusted.n
        ",
    },
    Scenario {
        name: "overlay's own xattrs are escaped, not lost",
        lowers: &["create f 644 -"],
        ops: "
            listxattr f
            chmod f 600
            listxattr f
        ",
    },
    Scenario {
        name: "root: access control lists: of a lower, set, inherited, removed",
        lowers: &[
            "
                create f 644 -
                setxattr f system.posix_acl_access %02%00%00%00%01%00%06%00%FF%FF%FF%FF%02%00%07%00%E8%03%00%00%04%00%04%00%FF%FF%FF%FF%10%00%07%00%FF%FF%FF%FF%20%00%04%00%FF%FF%FF%FF -
                mkdir d 755
                setxattr d system.posix_acl_default %02%00%00%00%01%00%07%00%FF%FF%FF%FF%02%00%07%00%E8%03%00%00%04%00%05%00%FF%FF%FF%FF%10%00%07%00%FF%FF%FF%FF%20%00%00%00%FF%FF%FF%FF -
            ",
        ],
        ops: "
            getxattr f system.posix_acl_access
            stat f
            chmod f 640
            getxattr f system.posix_acl_access
            stat f
            umask 22
            create d/n 666 excl
            mkdir d/m 777
            listxattr d/n
            getxattr d/n system.posix_acl_access
            getxattr d/m system.posix_acl_default
            stat d/n
            stat d/m
            as 1000 1000
            write d/n 0 by-acl
            read f
            write f 0 x
            as 0 0
            removexattr f system.posix_acl_access
            stat f
            chmod d 700
            getxattr d system.posix_acl_default
            removexattr d system.posix_acl_default
            create d/plain 666 -
            stat d/plain
        ",
    },
    Scenario {
        name: "an access control list that is not there can be removed",
        lowers: &[
            "
                create f 644 -
                mkdir d 755
            ",
        ],
        ops: "
            chmod f 600
            chmod d 700
            removexattr f system.posix_acl_access
            removexattr d system.posix_acl_default
            removexattr d system.posix_acl_access
            removexattr f system.posix_acl_default
        ",
    },
    Scenario {
        name: "root: links have one inode number",
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
            ino d/h
            link d/h d/i
            ino d/i
        ",
    },
    Scenario {
        name: "an access control list that says no more than the mode",
        lowers: &["create f 600 -"],
        ops: "
            setxattr f system.posix_acl_access %02%00%00%00%01%00%06%00%FF%FF%FF%FF%04%00%04%00%FF%FF%FF%FF%20%00%04%00%FF%FF%FF%FF -
            stat f
            listxattr f
            setxattr f system.posix_acl_access broken -
            setxattr f system.posix_acl_default %02%00%00%00%01%00%06%00%FF%FF%FF%FF%04%00%04%00%FF%FF%FF%FF%20%00%04%00%FF%FF%FF%FF -
            stat f
        ",
    },
    Scenario {
        name: "copy-up keeps owner, mode, times and xattrs together",
        lowers: &[
            "
                create f 640 -
                write f 0 content
                chown f 11 12
                chmod f 4750
                setxattr f user.k v -
                mkdir d 2750
                chown d 13 14
                setxattr d user.k v -
                create d/x 604 -
            ",
        ],
        ops: "
            append f +more
            stat f
            listxattr f
            read f
            chmod d/x 600
            stat d
            listxattr d
        ",
    },
    Scenario {
        name: "an owner works on the own files of a lower",
        lowers: &[
            "
                mkdir h 755
                chown h 1000 1000
                create h/f 600 -
                chown h/f 1000 1000
                write h/f 0 own
            ",
        ],
        ops: "
            as 1000 1000
            append h/f +mine
            chmod h/f 644
            utimens h/f omit 5.000000000
            setxattr h/f user.o p -
            create h/g 600 -
            mkdir h/d 700
            rename h/f h/d/f -
            read h/d/f
            link h/g h/i
            unlink h/g
            stat h/d/f
            chown h/i 1000 0
            chown h/i 0 -1
            as 0 0
            stat h/i
        ",
    },
    Scenario {
        name: "inode numbers stay over copy-up",
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
            ino d
            ino d/f
            ino d/e
            ino d/e/g
            ino d/s
            chmod d/f 600
            ino d/f
            write d/e/g 0 x
            ino d/e/g
            ino d/e
            ino d
            rename d/f d/n -
            ino d/n
            chown d/s 1 1
            ino d/s
        ",
    },
];
