//! Data: reading, writing, mapping, and what stays open meanwhile.

use crate::case::Scenario;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "write, append and read of a lower file",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            write d/f 0 LOW
            read d/f
            append d/f -tail
            read d/f
            write d/f 20 far
            read d/f
            stat d/f
        ",
    },
    Scenario {
        name: "truncate: shorter, longer, to nothing, of a directory",
        lowers: &["
                create f 644 -
                write f 0 0123456789
                mkdir d 755
                symlink f s
            "],
        ops: "
            truncate f 4
            read f
            truncate f 8
            read f
            truncate f 0
            truncate f 100000
            stat f
            truncate d 0
            truncate gone 0
            truncate f -1
            truncate s 3
            read f
        ",
    },
    Scenario {
        name: "truncate by root keeps setuid, and times change",
        lowers: &["
                create f 755 -
                write f 0 abc
                chmod f 4755
                create g 644 -
                write g 0 xyz
            "],
        ops: "
            truncate f 1
            stat f
            truncate g 3
            stat g
        ",
    },
    Scenario {
        name: "open with O_TRUNC of a lower file",
        lowers: &["
                create f 644 -
                write f 0 x*200000
            "],
        ops: "
            open 0 f rw,trunc
            fstat 0
            pwrite 0 0 new
            stat f
            read f
        ",
    },
    Scenario {
        name: "an open reader sees what is written after it",
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
            pread 0 0 9
            write d/f 0 NEW
            pread 0 0 9
            open 1 d/f rw
            pwrite 1 0 again
            pread 0 0 9
            pread 1 0 9
            fstat 0
            fstat 1
        ",
    },
    Scenario {
        name: "a reader's attributes after copy-up",
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
            chmod d/f 600
            fstat 0
            truncate d/f 2
            fstat 0
            pread 0 0 9
            fchmod 0 640
            stat d/f
            fchown 0 5 6
            stat d/f
            fsetxattr 0 user.a b
            listxattr d/f
        ",
    },
    Scenario {
        name: "opening to write without writing",
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
            close 0
            stat d/f
            open 0 d/e/g w,append
            close 0
            read d/e/g
            stat d/e/g
        ",
    },
    Scenario {
        name: "O_APPEND with an offset",
        lowers: &["
                create f 644 -
                write f 0 base
            "],
        ops: "
            open 0 f w,append
            pwrite 0 0 1
            pwrite 0 1 2
            read f
            open 1 f rw
            pwrite 1 0 B
            pwrite 0 0 3
            read f
            pread 1 0 20
        ",
    },
    Scenario {
        name: "shared mappings of a lower file",
        lowers: &["
                create f 644 -
                write f 0 x*10000
            "],
        ops: "
            open 0 f rw
            mmapwrite 0 mapped
            read f
            pread 0 0 10
            open 1 f -
            mmapwrite 1 no
            pwrite 0 2 PWRITE
            read f
            mmapwrite 0 m*9000
            read f
            stat f
        ",
    },
    Scenario {
        name: "holes and fallocate",
        lowers: &["
                create f 644 -
                write f 1000000 end
            "],
        ops: "
            stat f
            open 0 f rw
            seekdata 0 0
            seekhole 0 1000003
            seekdata 0 2000000
            pwrite 0 3000000 x
            fallocate 0 0 0 4096
            fallocate 0 1 5000000 100
            fallocate 0 3 1000000 3
            pread 0 999998 10
            fstat 0
            read f
        ",
    },
    Scenario {
        name: "copy_file_range between layers",
        lowers: &["
                create f 644 -
                write f 0 x*100000
                create g 644 -
                write g 0 short
            "],
        ops: "
            open 0 f -
            open 1 g rw
            copyrange 0 1 50000
            read g
            copyrange 1 0 10
            create n 644 -
            open 2 n w
            copyrange 0 2 200000
            read n
            stat n
        ",
    },
    Scenario {
        name: "large files over several requests",
        lowers: &["
                create f 644 -
                write f 0 a*3000000
                write f 2000000 b*5
            "],
        ops: "
            append f tail
            stat f
            read f
            open 0 f rw
            pread 0 1999999 7
            pwrite 0 1500000 c*1200000
            read f
        ",
    },
    Scenario {
        name: "opening what is not a plain file",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            open 0 d w
            open 0 d rw,creat
            open 0 d dir
            open 0 d/f dir
            open 0 d/s nofollow
            open 0 d/s path,nofollow
            fstat 0
            open 0 gone -
            open 0 d/f/x -
            open 0 d/f rw,creat,excl
            open 0 d/new rw,creat,excl
            pwrite 0 0 x
            read d/new
            open 1 d/f path
            fstat 1
            pread 1 0 4
            fchmod 1 600
            fdreaddir 1
        ",
    },
    Scenario {
        name: "unlink of open files leaves them usable",
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
            unlink d/f
            pread 0 0 100
            pwrite 0 0 after
            fstat 0
            pread 0 0 100
            ftruncate 0 3
            fchmod 0 600
            fchown 0 3 4
            fsetxattr 0 user.k v
            fsync 0
            fstat 0
            create d/f 644 excl
            write d/f 0 other
            pread 0 0 100
            read d/f
        ",
    },
    Scenario {
        name: "a lower file opened for reading is unlinked",
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
            unlink d/f
            pread 0 0 100
            fstat 0
            stat d/f
            fchmod 0 600
            readdir d
            create d/f 640 excl
            readdir d
        ",
    },
    Scenario {
        name: "an open directory is removed",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 lower
                mkdir d/e 755
                create d/e/g 644 -
                symlink f d/s
            "],
        ops: "
            open 0 d/e dir
            unlink d/e/g
            rmdir d/e
            fdreaddir 0
            fstat 0
            create d/e 644 excl
            fdreaddir 0
        ",
    },
    Scenario {
        name: "a file made and kept open through all its changes",
        lowers: &["mkdir d 755"],
        ops: "
            open 0 d/a rw,creat,excl
            pwrite 0 0 one
            rename d/a d/b -
            pwrite 0 3 two
            link d/b d/c
            unlink d/b
            pwrite 0 6 three
            chmod d/c 600
            fstat 0
            read d/c
            unlink d/c
            fstat 0
            pread 0 0 20
            fsync 0
        ",
    },
    Scenario {
        name: "two writers of one file",
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
            open 1 d/f rw
            pwrite 0 0 AA
            pwrite 1 2 BB
            pread 0 0 9
            ftruncate 1 3
            pread 0 0 9
            fstat 0
            unlink d/f
            pwrite 0 3 CC
            pread 1 0 9
        ",
    },
    Scenario {
        name: "write through a symlink of a lower",
        lowers: &["
                mkdir d 755
                create d/f 644 -
                write d/f 0 low
                symlink d/f s
                symlink d sd
            "],
        ops: "
            write s 0 LOW
            read d/f
            append sd/f more
            read s
            chmod s 600
            stat d/f
            create sd/n 644 -
            readdir d
            stat s
        ",
    },
    Scenario {
        name: "links of one lower file stay one file",
        lowers: &["
                create a 644 -
                write a 0 one
                link a b
                mkdir d 755
                link a d/c
            "],
        ops: "
            stat a
            write a 0 ONE
            read b
            read d/c
            chmod d/c 600
            stat b
        ",
    },
    Scenario {
        name: "links of one lower file are removed one by one",
        lowers: &["
                create a 644 -
                write a 0 one
                link a b
                link a c
            "],
        ops: "
            unlink b
            read a
            append c more
            read a
            stat a
            unlink a
            read c
            stat c
        ",
    },
    Scenario {
        name: "links of one lower file: open, written by another name",
        lowers: &["
                create a 644 -
                write a 0 one
                link a b
            "],
        ops: "
            open 0 b -
            write a 0 ONE
            pread 0 0 9
            rename a x -
            append x more
            read b
            link b y
            stat y
            rename b y -
            rename x b -
            readdir .
        ",
    },
    Scenario {
        name: "links of one lower file get new names and lose old ones",
        lowers: &["
                create a 644 -
                write a 0 one
                link a b
                mkdir d 755
                link a d/c
            "],
        ops: "
            link a new
            stat b
            rename d/c d/moved -
            unlink a
            stat new
            create other 644 -
            rename other b -
            stat new
            write d/moved 0 TWO
            read new
            unlink new
            stat d/moved
            unlink d/moved
            readdir d
        ",
    },
];
