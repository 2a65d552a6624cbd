//! Random sequences of operations over a small alphabet of names, on one to three random layers.

use std::cell::RefCell;

use nix::fcntl::{OFlag, RenameFlags as NixRename};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::case::{Case, Links};
use super::op::Op;
use super::pair::{Difference, Pair, can_run};
use super::session::{Engine, Place};
use super::word::{Data, Kind, Mode, OpenFlags, Path, RenameFlags, Time, XattrFlags};

/// How many steps a sequence has at most; some are of several operations.
const STEPS: usize = 40;

/// Any name, three deep at most.
fn path() -> impl Strategy<Value = Path> {
    let name = || select(vec!["a", "a", "b", "c"]);
    prop_oneof![
        2 => name().prop_map(str::to_owned),
        4 => (name(), name()).prop_map(|(one, two)| format!("{one}/{two}")),
        2 => (name(), name(), name()).prop_map(|(one, two, three)| format!("{one}/{two}/{three}")),
    ]
    .prop_map(|text| Path(text.into_bytes()))
}

/// Most names that are tried as directories are among these, so that most attempts succeed ...
pub fn dir() -> impl Strategy<Value = Path> {
    let usual = select(vec!["a", "a", "b", "a/a", "a/a", "a/b", "b/a", "a/a/a", "a/a/b"]);
    prop_oneof![4 => usual.prop_map(Path::from).boxed(), 1 => path().boxed()]
}

/// ... and as files among these; some are in both.
fn file() -> impl Strategy<Value = Path> {
    let usual = select(vec!["c", "a/c", "a/c", "b/c", "a/a/c", "a/a/c", "a/b/c", "b", "a/b"]);
    prop_oneof![4 => usual.prop_map(Path::from).boxed(), 1 => path().boxed()]
}

pub fn file_or_dir() -> impl Strategy<Value = Path> {
    prop_oneof![2 => file().boxed(), 1 => dir().boxed()]
}

/// Also the root, for what makes sense there.
fn path_or_root() -> impl Strategy<Value = Path> {
    prop_oneof![8 => file_or_dir().boxed(), 1 => Just(Path::from(".")).boxed()]
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![0o755, 0o644, 0o700, 0o777, 0o1777, 0o2775, 0o4755, 0o600, 0o000]).prop_map(Mode)
}

fn data() -> impl Strategy<Value = Data> {
    select(vec![
        Data::Literal(b"one".to_vec()),
        Data::Literal(b"two-and-more".to_vec()),
        Data::Repeat(b'x', 0),
        Data::Repeat(b'y', 5000),
        Data::Repeat(b'z', 140_000),
    ])
}

fn length() -> impl Strategy<Value = i64> {
    select(vec![0, 1, 2, 4096, 10_000])
}

/// User and group. (-1, -1) is left to the scenarios: FUSE hardly lets a server see it.
fn owner() -> impl Strategy<Value = (i64, i64)> {
    select(vec![(0, 0), (1000, 1000), (1001, -1), (-1, 1000), (-1, 0)])
}

fn time() -> impl Strategy<Value = Time> {
    select(vec![Time::Omit, Time::At(5, 6), Time::At(-1, 1), Time::At(4_102_444_800, 0), Time::Now])
}

fn xattr_name() -> impl Strategy<Value = Path> {
    select(vec!["user.one", "user.two"]).prop_map(Path::from)
}

fn xattr_flags() -> impl Strategy<Value = XattrFlags> {
    select(vec![0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]).prop_map(XattrFlags)
}

fn creation_flags() -> impl Strategy<Value = OpenFlags> {
    select(vec![OFlag::empty(), OFlag::O_EXCL, OFlag::O_TRUNC]).prop_map(OpenFlags)
}

fn open_flags() -> impl Strategy<Value = OpenFlags> {
    select(vec![
        OFlag::O_RDONLY,
        OFlag::O_RDONLY,
        OFlag::O_RDWR,
        OFlag::O_WRONLY | OFlag::O_APPEND,
        OFlag::O_RDWR | OFlag::O_TRUNC,
        OFlag::O_RDWR | OFlag::O_CREAT,
        OFlag::O_PATH,
    ])
    .prop_map(OpenFlags)
}

fn rename_flags() -> impl Strategy<Value = RenameFlags> {
    let (none, exchange) = (NixRename::empty(), NixRename::RENAME_EXCHANGE);
    select(vec![none, none, none, exchange, NixRename::RENAME_NOREPLACE]).prop_map(RenameFlags)
}

fn slot() -> impl Strategy<Value = usize> {
    0..2_usize
}

/// What both layers and mounts are made with.
fn building() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (dir(), mode()).prop_map(|(path, mode)| Op::Mkdir(path, mode)),
        5 => (file(), mode(), creation_flags()).prop_map(|(p, mode, f)| Op::Create(p, mode, f)),
        5 => (file(), length(), data()).prop_map(|(path, at, data)| Op::Write(path, at, data)),
        1 => (path(), file()).prop_map(|(target, path)| Op::Symlink(target, path)),
        1 => (file(), select(vec![Kind::Fifo, Kind::Socket, Kind::Regular]), mode())
            .prop_map(|(path, kind, mode)| Op::Mknod(path, kind, mode)),
        2 => (path_or_root(), mode()).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => (path_or_root(), owner()).prop_map(|(path, (uid, gid))| Op::Chown(path, uid, gid)),
        2 => (path_or_root(), xattr_name(), data(), xattr_flags())
            .prop_map(|(path, name, value, flags)| Op::Setxattr(path, name, value, flags)),
    ]
}

pub fn ancestors(path: &Path) -> impl Iterator<Item = Op> {
    let slashes = path.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| Op::Mkdir(Path(path.0[..at].to_vec()), Mode(0o755)))
}

/// An object of a layer, with the directories above it.
pub fn planted(links: Links) -> impl Strategy<Value = Vec<Op>> {
    let content = (file(), mode(), data()).prop_map(|(path, mode, data)| {
        let made = Op::Create(path.clone(), mode, OpenFlags(OFlag::O_EXCL));
        let above = ancestors(&path).collect();
        [above, vec![made, Op::Write(path, 0, data)]].concat()
    });
    let above_first = |path: Path, op: fn(Path) -> Op| {
        let above: Vec<Op> = ancestors(&path).collect();
        [above, vec![op(path)]].concat()
    };
    let opaque = dir().prop_map(|path| {
        let above: Vec<Op> = ancestors(&path).collect();
        [above, vec![Op::Mkdir(path.clone(), Mode(0o755)), Op::Opaque(path)]].concat()
    });
    let linked = match links {
        Links::None => 0,
        Links::InLower => 6,
        Links::Apart => 12,
    };
    prop_oneof![
        5 => content.boxed(),
        3 => dir()
            .prop_map(move |path| above_first(path, |path| Op::Mkdir(path, Mode(0o755))))
            .boxed(),
        2 => file_or_dir().prop_map(move |path| above_first(path, Op::Whiteout)).boxed(),
        2 => opaque.boxed(),
        4 => building().prop_map(|op| vec![op]).boxed(),
        linked => (file(), file()).prop_map(|(from, to)| vec![Op::Link(from, to)]).boxed(),
    ]
}

/// A layer is built from an empty directory: some operations fail, alike on both sides.
fn layer(links: Links) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(planted(links), 2..12).prop_map(|parts| parts.concat())
}

fn on_names() -> impl Strategy<Value = Op> {
    let from_to = || {
        prop_oneof![
            3 => (file(), file()).boxed(),
            2 => (dir(), dir()).boxed(),
            1 => (path(), path()).boxed(),
        ]
    };
    prop_oneof![
        6 => file().prop_map(Op::Unlink),
        5 => dir().prop_map(Op::Rmdir),
        8 => (from_to(), rename_flags()).prop_map(|((from, to), f)| Op::Rename(from, to, f)),
        4 => from_to().prop_map(|(from, to)| Op::Link(from, to)),
        2 => (file(), data()).prop_map(|(path, data)| Op::Append(path, data)),
        2 => (file(), length()).prop_map(|(path, len)| Op::Truncate(path, len)),
        2 => (path_or_root(), time(), time()).prop_map(|(p, one, two)| Op::Utimens(p, one, two)),
        1 => (file(), xattr_name()).prop_map(|(path, name)| Op::Removexattr(path, name)),
        1 => (file(), xattr_name()).prop_map(|(path, name)| Op::Getxattr(path, name)),
        1 => path_or_root().prop_map(Op::Listxattr),
        2 => path_or_root().prop_map(Op::Stat),
        2 => file().prop_map(Op::Read),
        1 => file().prop_map(Op::Readlink),
        2 => dir().prop_map(Op::Readdir),
        1 => Just(Op::Readdir(Path::from("."))),
        1 => (file_or_dir(), mode()).prop_map(|(p, mode)| Op::Access(p, Mode(mode.0 & 7))),
        1 => select(vec![(0, 0), (1000, 1000)]).prop_map(|(uid, gid)| Op::As(uid, gid)),
        1 => mode().prop_map(|mode| Op::Umask(Mode(mode.0 & 0o77))),
    ]
}

fn on_open_file() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => slot().prop_map(Op::Close),
        2 => (slot(), length()).prop_map(|(slot, at)| Op::Pread(slot, at, 8000)),
        3 => (slot(), length(), data()).prop_map(|(slot, at, data)| Op::Pwrite(slot, at, data)),
        2 => slot().prop_map(Op::Fstat),
        1 => (slot(), length()).prop_map(|(slot, len)| Op::Ftruncate(slot, len)),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Op::Fchmod(slot, mode)),
        1 => (slot(), owner()).prop_map(|(slot, (uid, gid))| Op::Fchown(slot, uid, gid)),
        1 => (slot(), xattr_name(), data()).prop_map(|(s, name, v)| Op::Fsetxattr(s, name, v)),
        1 => (slot(), data()).prop_map(|(slot, data)| Op::MmapWrite(slot, data)),
        1 => slot().prop_map(Op::FdReaddir),
        1 => slot().prop_map(Op::Fsync),
    ]
}

/// What programs do in one go: open a file, perhaps lose its name, and use it.
fn session_of_a_file() -> impl Strategy<Value = Vec<Op>> {
    let open = (slot(), file_or_dir(), open_flags()).prop_map(|(slot, p, f)| Op::Open(slot, p, f));
    let between = prop_oneof![on_open_file().boxed(), on_names().boxed()];
    (open, prop::collection::vec(between, 1..4)).prop_map(|(open, mut rest)| {
        rest.insert(0, open);
        rest
    })
}

fn case(links: Links) -> impl Strategy<Value = Case> {
    let op = prop_oneof![
        4 => building().prop_map(|op| vec![op]).boxed(),
        6 => on_names().prop_map(|op| vec![op]).boxed(),
        1 => on_open_file().prop_map(|op| vec![op]).boxed(),
        2 => session_of_a_file().boxed(),
    ];
    let lowers = prop::collection::vec(layer(links), 1..4);
    let ops = prop::collection::vec(op, 1..STEPS).prop_map(|steps| steps.concat());
    (lowers, ops).prop_map(move |(lowers, ops)| Case { lowers, ops, links })
}

/// Directories moved about, and looked into.
fn moves() -> impl Strategy<Value = Case> {
    let flags = || rename_flags();
    let op = prop_oneof![
        8 => (dir(), dir(), flags()).prop_map(|(from, to, f)| Op::Rename(from, to, f)),
        2 => (file(), file(), flags()).prop_map(|(from, to, f)| Op::Rename(from, to, f)),
        2 => (dir(), mode()).prop_map(|(path, mode)| Op::Mkdir(path, mode)),
        1 => file().prop_map(Op::Unlink),
        1 => dir().prop_map(Op::Rmdir),
        1 => (file(), data()).prop_map(|(path, data)| Op::Append(path, data)),
        1 => (file_or_dir(), mode()).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => dir().prop_map(Op::Readdir),
        1 => file_or_dir().prop_map(Op::Stat),
    ];
    let lowers = prop::collection::vec(layer(Links::None), 1..4);
    let ops = prop::collection::vec(op, 1..STEPS);
    (lowers, ops).prop_map(|(lowers, ops)| Case { lowers, ops, links: Links::None })
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The same sequences each run, so that a change is judged by what it changes; with
/// `OVLMERGE_ORACLE_SEED=random` new ones, or those of the number that such a run has printed.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    match std::env::var("OVLMERGE_ORACLE_SEED") {
        Ok(word) if word == "random" => RandomState::new().hash_one(0_u8),
        Ok(number) => number.parse().unwrap(),
        Err(_) => 1,
    }
}

pub fn search_among(
    test: &str,
    strategy: impl Strategy<Value = Case>,
    cases: u32,
    check: impl FnMut(&Case) -> Result<(), Difference>,
) -> Option<(Case, Difference)> {
    let cases = environment("OVLMERGE_ORACLE_CASES").map_or(cases, |n| n.try_into().unwrap());
    let seed = seed();
    println!("{test}: {cases} sequences, OVLMERGE_ORACLE_SEED={seed}");
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 600,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let check = RefCell::new(check);
    let result = TestRunner::new_with_rng(config, rng)
        .run(&strategy, |case| (check.borrow_mut())(&case).map_err(TestCaseError::fail));
    match result {
        Ok(()) => None,
        Err(TestError::Fail(why, case)) => Some((case, why.message().to_owned())),
        Err(TestError::Abort(why)) => panic!("{test}: {why}"),
    }
}

/// Looks for a case that does not hold, shrinks it, and fails with it as a scenario to keep.
pub fn search(
    test: &str,
    place: Place,
    links: Links,
    cases: u32,
    check: impl FnMut(&Case) -> Result<(), Difference>,
) {
    if let Some((case, difference)) = search_among(test, case(links), cases, check) {
        panic!("{test} in {place:?}: {difference}\n{case}");
    }
}

/// Runs random sequences on two engines, and fails with the shortest on which they part.
pub fn compare(test: &str, place: Place, engines: [Engine; 2], links: Links, cases: u32) {
    compare_among(test, place, engines, case(links), cases);
}

/// The same with sequences that move directories, as root.
pub fn compare_moves(test: &str, engines: [Engine; 2], cases: u32) {
    compare_among(test, Place::Root, engines, moves(), cases);
}

fn compare_among(
    test: &str,
    place: Place,
    engines: [Engine; 2],
    strategy: impl Strategy<Value = Case>,
    cases: u32,
) {
    let mut pair = Pair::new(place, engines);
    let found = search_among(test, strategy, cases, |case| pair.check(case));
    let Some((case, difference)) = found else { return };
    let first = pair.check_each_step(&case).err();
    let first = first.as_deref().unwrap_or("not when each step is looked at");
    panic!("{test} in {place:?}: {difference}\nFirst seen: {first}\n{case}");
}

const KERNEL_AND_OVLMERGE: [Engine; 2] = [Engine::Kernel, Engine::Ovlmerge];

fn kernel_and_ovlmerge(test: &str, place: Place, links: Links) {
    if can_run(test, place, &[Engine::Kernel]) {
        compare(test, place, KERNEL_AND_OVLMERGE, links, 100);
    }
}

#[test]
fn as_root() {
    kernel_and_ovlmerge("random::as_root", Place::Root, Links::None);
}

/// Only as root: the kernel has no index in a user namespace.
#[test]
fn hard_links_in_lowers() {
    kernel_and_ovlmerge("random::hard_links_in_lowers", Place::Root, Links::InLower);
}

/// Without an index each name is a file of its own.
#[test]
fn hard_links_apart() {
    kernel_and_ovlmerge("random::hard_links_apart", Place::Root, Links::Apart);
}

#[test]
fn hard_links_apart_in_a_user_namespace() {
    let test = "random::hard_links_apart_in_a_user_namespace";
    kernel_and_ovlmerge(test, Place::Userns, Links::Apart);
}

#[test]
fn in_a_user_namespace() {
    kernel_and_ovlmerge("random::in_a_user_namespace", Place::Userns, Links::None);
}
