//! System calls that neither the standard library nor nix, as we have it, offers.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Gives this thread, and no other, the credentials of an ordinary user.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) {
    // SAFETY: plain numbers and a slice that outlives the call. The system calls themselves, not
    // the C library's functions, which would change all threads.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()),
            libc::syscall(libc::SYS_setresgid, gid, gid, gid),
            libc::syscall(libc::SYS_setresuid, uid, uid, uid),
        ]
    };
    assert_eq!(results, [0; 3], "{}", Error::last_os_error());
}

/// Gives this thread, and no other, a umask.
pub fn own_umask(umask: u32) {
    // SAFETY: no pointers. After it this thread has its own umask and working directory.
    let result = check(unsafe { libc::unshare(libc::CLONE_FS) });
    result.unwrap();
    // SAFETY: no pointers; never fails.
    unsafe { libc::umask(umask) };
}

/// rename(2) with flags.
pub fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    // SAFETY: both are NUL-terminated and outlive the call.
    check(unsafe {
        libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)
    })
}

/// setxattr(2) with XATTR_CREATE or XATTR_REPLACE.
pub fn set_xattr(path: &Path, name: &OsStr, value: &[u8], flags: i32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = CString::new(name.as_bytes()).unwrap();
    // SAFETY: both are NUL-terminated, the value has the length given, all outlive the call.
    check(unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    })
}

/// getxattr(2) into a buffer of `size` bytes; the length of the value.
pub fn get_xattr(path: &Path, name: &str, size: usize) -> io::Result<usize> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    let mut buffer = vec![0_u8; size];
    // SAFETY: both names are NUL-terminated, the buffer has the length given and is writable.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), size) };
    usize::try_from(length).map_err(|_| Error::last_os_error())
}

/// copy_file_range(2), repeated until `length` bytes are copied.
pub fn copy_range(
    from: &File,
    mut at: i64,
    to: &File,
    mut onto: i64,
    length: usize,
) -> io::Result<()> {
    let mut rest = length;
    while rest > 0 {
        // SAFETY: both offsets are writable and outlive the call.
        let done = unsafe {
            libc::copy_file_range(
                from.as_raw_fd(),
                &raw mut at,
                to.as_raw_fd(),
                &raw mut onto,
                rest,
                0,
            )
        };
        match usize::try_from(done) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(done) => rest -= done,
            Err(_) => return Err(Error::last_os_error()),
        }
    }
    Ok(())
}

/// FS_IOC_GETFLAGS: what lsattr shows.
pub fn get_flags(file: &File) -> io::Result<i32> {
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel writes an int there, whatever the number of the request says.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    Ok(flags)
}

/// FS_IOC_SETFLAGS: what chattr does.
pub fn set_flags(file: &File, flags: i32) -> io::Result<()> {
    // SAFETY: the kernel reads an int there.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) })
}

/// ioctl(2) with a request of that number and no argument.
pub fn ioctl(file: &File, request: libc::c_ulong) -> io::Result<()> {
    // SAFETY: no pointer is given; a request that wants one gets EFAULT.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, 0) })
}

/// Whether the kernel has mount_setattr(2), of Linux 5.12.
pub fn knows_mount_setattr() -> bool {
    // SAFETY: no pointers; without a size it fails in any case.
    unsafe { libc::syscall(libc::SYS_mount_setattr, -1, 0, 0, 0, 0) };
    Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// syncfs(2).
pub fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Makes the program run without one system call: it answers ENOSYS, as an old kernel would.
pub fn deny_syscall(command: &mut Command, number: i64) {
    let step = |code: u32, on_equal: u8, on_other: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt: on_equal,
        jf: on_other,
        k,
    };
    let number = u32::try_from(number).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::ENOSYS).unwrap();
    let mut filter = [
        // The number of the call stands at the beginning of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the filter has the length given and outlives the call. Nothing here allocates, as
        // is asked of what runs between fork and exec.
        check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        // SAFETY: as above.
        check(unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        })
    };
    // SAFETY: `install` makes two system calls and nothing else.
    unsafe { command.pre_exec(install) };
}

/// Makes the program run with at most `limit` open files, and no way to raise that.
pub fn limit_open_files(command: &mut Command, limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    let set = move || {
        // SAFETY: the limit outlives the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
    };
    // SAFETY: `set` makes one system call and nothing else.
    unsafe { command.pre_exec(set) };
}

/// Makes the program run without one capability, and no way to get it back.
pub fn drop_capability(command: &mut Command, number: u8) {
    let drop = move || {
        let number = libc::c_ulong::from(number);
        // SAFETY: plain numbers.
        check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) })
    };
    // SAFETY: `drop` makes one system call and nothing else.
    unsafe { command.pre_exec(drop) };
}

/// Gives the program a descriptor under a number, as callers do that open things for it.
pub fn pass_descriptor(command: &mut Command, descriptor: BorrowedFd<'_>, number: i32) {
    let descriptor = descriptor.as_raw_fd();
    assert_ne!(descriptor, number);
    let pass = move || {
        // SAFETY: plain numbers; the copy is open over exec.
        let passed = unsafe { libc::dup2(descriptor, number) };
        if passed == number { Ok(()) } else { Err(Error::last_os_error()) }
    };
    // SAFETY: `pass` makes one system call and nothing else.
    unsafe { command.pre_exec(pass) };
}

/// Starts the program with the signals as podman has them: some ignored, some blocked, both of
/// which are inherited; and with a low soft limit of open files.
pub fn inherit_from_podman(command: &mut Command) {
    let set = || {
        let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills what it is given; then it is a set to add to.
        unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
        for signal in [libc::SIGCHLD, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGTERM] {
            // SAFETY: initialised above.
            unsafe { libc::sigaddset(mask.as_mut_ptr(), signal) };
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the set is initialised and the limit writable; all outlive the calls.
        unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, mask.as_ptr(), std::ptr::null_mut());
            libc::signal(libc::SIGQUIT, libc::SIG_IGN);
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        }
        limit.rlim_cur = 256;
        // SAFETY: as above.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
    };
    // SAFETY: `set` makes system calls and nothing else.
    unsafe { command.pre_exec(set) };
}

/// Entries of a directory as getdents64(2) gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub ino: u64,
    pub offset: i64,
    pub kind: u8,
    pub name: Vec<u8>,
}

/// The next entries of an open directory, as many as fit into `size` bytes; empty at the end.
pub fn getdents(dir: &File, size: usize) -> io::Result<Vec<DirEntry>> {
    let mut buffer = vec![0_u8; size];
    // SAFETY: the buffer has the length given and is writable.
    let count = unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_os_error());
    };
    let mut rest = &buffer[..count];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let (entry, others) = rest.split_at(length);
        let name = entry[19..].split(|&byte| byte == 0).next().unwrap();
        entries.push(DirEntry {
            ino: u64::from_ne_bytes(entry[..8].try_into().unwrap()),
            offset: i64::from_ne_bytes(entry[8..16].try_into().unwrap()),
            kind: entry[18],
            name: name.to_vec(),
        });
        rest = others;
    }
    Ok(entries)
}

/// All entries of a directory, `.` and `..` too.
pub fn list_dir(path: &Path) -> Vec<DirEntry> {
    let dir = File::open(path).unwrap();
    let mut all = Vec::new();
    loop {
        let some = getdents(&dir, 32 << 10).unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// A shared mapping of a file.
#[derive(Debug)]
pub struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes, for writing too if the file is open for that.
    pub fn new(file: BorrowedFd<'_>, length: usize, writable: bool) -> io::Result<Self> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: the kernel chooses the place, so nothing that exists is replaced.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | write,
                libc::MAP_SHARED,
                file.as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Self { start, length })
    }

    pub fn read(&self) -> Vec<u8> {
        let mut copy = vec![0; self.length];
        // SAFETY: the mapping has that length and stays until drop. It can change while it is
        // read, so no reference to it is made.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.cast(), copy.as_mut_ptr(), self.length);
        }
        copy
    }

    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        // SAFETY: within the mapping, as was just seen.
        unsafe {
            let start = self.start.cast::<u8>().add(offset);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }

    /// msync(2), to the end.
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: a mapping of that length is there.
        check(unsafe { libc::msync(self.start, self.length, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// Asynchronous direct writes, as io_submit(2) takes them.
#[derive(Debug)]
pub struct Aio(libc::c_ulong);

/// `struct iocb` of linux/aio_abi.h on a little-endian machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    notified: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct IoEvent {
    data: u64,
    iocb: u64,
    result: i64,
    more: i64,
}

/// `IOCB_CMD_PWRITE` of linux/aio_abi.h.
const PWRITE: u16 = 1;

impl Aio {
    /// For so many writes at a time.
    pub fn new(most: usize) -> io::Result<Self> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context is writable and zero, as io_setup(2) asks.
        check_long(unsafe { libc::syscall(libc::SYS_io_setup, most, &raw mut context) })?;
        Ok(Self(context))
    }

    /// Writes parts of this size one behind the other, all at once, and waits for all. The first
    /// result that is not the size of a part is an error.
    pub fn write(&self, file: &File, data: &Aligned, part: usize) -> io::Result<()> {
        let descriptor = u32::try_from(file.as_raw_fd()).unwrap();
        let mut blocks: Vec<Iocb> = data
            .bytes()
            .chunks(part)
            .enumerate()
            .map(|(at, chunk)| Iocb {
                opcode: PWRITE,
                descriptor,
                buffer: chunk.as_ptr() as u64,
                bytes: chunk.len() as u64,
                offset: i64::try_from(at * part).unwrap(),
                ..Iocb::default()
            })
            .collect();
        let pointers: Vec<*mut Iocb> = blocks.iter_mut().map(std::ptr::from_mut).collect();
        let (context, count) = (self.0, blocks.len());
        // SAFETY: all blocks, and the buffers that they name, outlive the wait below.
        let sent = check_long(unsafe {
            libc::syscall(libc::SYS_io_submit, context, count, pointers.as_ptr())
        })?;
        let mut events = vec![IoEvent::default(); count];
        // SAFETY: there is room for as many events as are asked for.
        check_long(unsafe {
            let events = events.as_mut_ptr();
            let forever = std::ptr::null::<libc::timespec>();
            libc::syscall(libc::SYS_io_getevents, context, sent, sent, events, forever)
        })?;
        let odd = events.iter().find(|event| event.result != part as i64);
        match odd {
            Some(event) => Err(Error::other(format!("a write gave {}", event.result))),
            None => Ok(()),
        }
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is one of ours, and nothing is under way in it.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Memory that begins at a page, as `O_DIRECT` wants it.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    const PAGE: usize = 4096;

    pub fn new(length: usize) -> Self {
        let memory = vec![0; length + Self::PAGE];
        let start = memory.as_ptr().align_offset(Self::PAGE);
        Self { memory, start, length }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    pub fn fill(&mut self, byte: u8) {
        self.memory[self.start..self.start + self.length].fill(byte);
    }

    /// Reads from the beginning of a file; how many bytes.
    pub fn read_from(&mut self, file: &File) -> usize {
        use std::os::unix::fs::FileExt;
        file.read_at(&mut self.memory[self.start..self.start + self.length], 0).unwrap()
    }
}

/// Mounts a directory at another so that owners appear as a user namespace maps them
/// (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
pub fn mount_idmapped(source: &Path, target: &Path, namespace: &File) -> io::Result<()> {
    // linux/mount.h.
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let [source, target] = [source, target].map(|it| CString::new(it.as_os_str().as_bytes()));
    let (source, target) = (source?, target?);
    let flags = 1 | libc::O_CLOEXEC; // OPEN_TREE_CLONE
    // SAFETY: the path is NUL-terminated and outlives the call.
    let tree = check_long(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags)
    })?;
    // `struct mount_attr`: set, clear, propagation, namespace.
    let attr = [0x10_0000u64, 0, 0, u64::try_from(namespace.as_raw_fd()).unwrap()];
    let (empty, size) = (c"".as_ptr(), size_of_val(&attr));
    // SAFETY: the path is NUL-terminated, and `attr` has `size` bytes.
    check_long(unsafe {
        let call = libc::SYS_mount_setattr;
        libc::syscall(call, tree, empty, libc::AT_EMPTY_PATH, attr.as_ptr(), size)
    })?;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check_long(unsafe {
        let (call, flags) = (libc::SYS_move_mount, MOVE_MOUNT_F_EMPTY_PATH);
        libc::syscall(call, tree, empty, libc::AT_FDCWD, target.as_ptr(), flags)
    })?;
    // SAFETY: it was made above, and nobody else knows it.
    unsafe { libc::close(i32::try_from(tree).unwrap()) };
    Ok(())
}

/// Runs the command in a control group, by its `cgroup.procs`.
pub fn enter_group(command: &mut Command, procs: &Path) {
    let procs = File::options().write(true).open(procs).unwrap();
    // SAFETY: write(2) alone, of a descriptor that the closure owns; nothing allocates.
    unsafe { command.pre_exec(move || std::io::Write::write_all(&mut &procs, b"0")) };
}
