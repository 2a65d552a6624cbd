//! Layers with marks that nobody would write, on the upper too: the kernel and ovlmerge show the
//! same tree. Redirects and metacopy marks, which the kernel does not follow in a user namespace,
//! are left to `formats`.

use proptest::prelude::*;
use proptest::sample::select;

use super::case::{Case, Links};
use super::op::Op;
use super::pair::{Difference, can_run};
use super::random::{ancestors, dir, file_or_dir, planted, search_among};
use super::session::{Engine, Place, Session};
use super::word::{Data, Mode, OpenFlags, Path};

fn mark(path: Path, name: &str, value: &[u8]) -> Op {
    let value = match value {
        b"" => Data::Repeat(b'x', 0),
        value => Data::Literal(value.to_vec()),
    };
    Op::Mark(path, Path::from(name), value)
}

/// A mark on what may or may not be there.
fn marked() -> impl Strategy<Value = Vec<Op>> {
    let opaque = (dir(), select(vec!["y", "y", "x", "x", "n", "yy", ""]))
        .prop_map(|(path, value)| vec![mark(path, "opaque", value.as_bytes())]);
    let others = (file_or_dir(), select(vec!["origin", "impure", "nlink", "upper", "unknown"]))
        .prop_map(|(path, name)| vec![mark(path, name, b"y")]);
    prop_oneof![
        8 => planted(Links::None).boxed(),
        4 => opaque.boxed(),
        1 => others.boxed(),
    ]
}

/// A whiteout by attribute, with what it takes to be one.
fn whiteout() -> impl Strategy<Value = Vec<Op>> {
    file_or_dir().prop_map(|path| {
        let above: Vec<Op> = ancestors(&path).collect();
        let parent = path.0.iter().rposition(|byte| *byte == b'/').map(|at| path.0[..at].to_vec());
        let parent = parent.map_or_else(|| Path::from("."), Path);
        let made = Op::Create(path.clone(), Mode(0o600), OpenFlags(nix::fcntl::OFlag::O_EXCL));
        let marks = [
            mark(Path::from("."), "opaque", b"x"),
            mark(parent, "opaque", b"x"),
            made,
            mark(path, "whiteout", b""),
        ];
        [above, marks.to_vec()].concat()
    })
}

/// Two to four layers; the first is the upper.
fn stack() -> impl Strategy<Value = Case> {
    let marked = prop::collection::vec(marked(), 2..14);
    // Last, as other marks of a directory would make ordinary files of them; the kernel finds none
    // of these either, but lists them.
    let whiteouts = prop::collection::vec(whiteout(), 0..3);
    let layer = (marked, whiteouts).prop_map(|(one, two)| [one.concat(), two.concat()].concat());
    prop::collection::vec(layer, 2..5).prop_map(|lowers| Case {
        lowers,
        ops: Vec::new(),
        links: Links::None,
    })
}

fn check(sessions: &mut [Session; 2], engines: [Engine; 2], case: &Case) -> Result<(), Difference> {
    for (session, engine) in sessions.iter_mut().zip(engines) {
        session.build_with_upper(&case.layers())?;
        session.mount(engine)?;
    }
    let [kernel, ours] = [sessions[0].merged()?, sessions[1].merged()?];
    for session in sessions.iter_mut() {
        session.unmount()?;
    }
    let differences = kernel.differences(&ours);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n    ")) }
}

fn side_by_side(test: &str, place: Place, engines: [Engine; 2]) {
    if !can_run(test, place, &engines[..1]) {
        return;
    }
    let mut kept: Option<[Session; 2]> = None;
    let found = search_among(test, stack(), 200, |case| {
        let mut sessions = match kept.take() {
            Some(sessions) => sessions,
            None => [Session::start(place)?, Session::start(place)?],
        };
        check(&mut sessions, engines, case)?;
        kept = Some(sessions);
        Ok(())
    });
    if let Some((case, difference)) = found {
        panic!("{test}: {difference}\nthe first layer is the upper:\n{case}");
    }
}

#[test]
fn in_the_user_namespace() {
    let engines = [Engine::Kernel, Engine::Ovlmerge];
    side_by_side("crafted::in_the_user_namespace", Place::Userns, engines);
}
