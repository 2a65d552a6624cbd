//! Two engines side by side.

use super::case::{Case, Links};
use super::documented::{self, Written};
use super::op::Op;
use super::release;
use super::session::{Engine, Failure, Place, Session};
use super::tree::Tree;

/// The first release of Linux with overlays of users (`userxattr`).
const OVERLAYS_OF_USERS: (u32, u32) = (5, 11);

/// Starts a session and mounts something, or says why this machine cannot.
pub fn available(place: Place, engine: Engine) -> Result<(), Failure> {
    let mut session = Session::start(place)?;
    session.build(&[vec!["mkdir a 755".into()]])?;
    session.mount(engine)?;
    session.unmount()
}

/// Whether the test can run here. Prints why not, or fails where skipping is not wanted.
pub fn can_run(test: &str, place: Place, engines: &[Engine]) -> bool {
    for engine in engines {
        if let Err(why) = available(place, *engine) {
            let why = format!("{test}: {engine:?} in {place:?}: {why}");
            let users = place == Place::Userns && engine.is_kernel();
            let too_old = users && release::running() < OVERLAYS_OF_USERS;
            let may_skip = std::env::var_os("OVLMERGE_NO_SKIP").is_none_or(|no| no != "1");
            assert!(may_skip || too_old, "{why}");
            println!("SKIPPED {why}");
            return false;
        }
    }
    true
}

/// Both engines, each in its own process.
pub struct Pair {
    place: Place,
    engines: [Engine; 2],
    sessions: Option<[Session; 2]>,
}

/// What differs, in words; lines after the first are details.
pub type Difference = String;

impl Pair {
    pub fn new(place: Place, engines: [Engine; 2]) -> Self {
        Self { place, engines, sessions: None }
    }

    /// Runs the case on both. `Err` says where they part.
    pub fn check(&mut self, case: &Case) -> Result<(), Difference> {
        self.with_sessions(case, |sessions, engines| run(sessions, engines, case))
    }

    /// Runs the case on both and looks at both trees after every operation.
    pub fn check_each_step(&mut self, case: &Case) -> Result<(), Difference> {
        self.with_sessions(case, |sessions, engines| {
            prepare(sessions, engines, case)?;
            for (nth, op) in case.ops.iter().enumerate() {
                interrupt(sessions, engines, case, nth)?;
                step(sessions, engines, op)?;
                compare_merged(sessions, &format!("after `{op}`"))?;
            }
            Ok(())
        })
    }

    fn with_sessions(
        &mut self,
        case: &Case,
        job: impl FnOnce(&mut [Session; 2], [Engine; 2]) -> Result<(), Difference>,
    ) -> Result<(), Difference> {
        let mut sessions = match self.sessions.take() {
            Some(sessions) => sessions,
            None => [Session::start(self.place)?, Session::start(self.place)?],
        };
        let engines = self.engines.map(|engine| engine.with_links(case.links));
        job(&mut sessions, engines)?;
        // After a difference something may still hang or be mounted: the next case starts afresh.
        self.sessions = Some(sessions);
        Ok(())
    }
}

fn prepare(
    sessions: &mut [Session; 2],
    engines: [Engine; 2],
    case: &Case,
) -> Result<(), Difference> {
    for session in sessions.iter_mut() {
        session.build(&case.layers())?;
    }
    mount(sessions, engines)
}

fn mount(sessions: &mut [Session; 2], engines: [Engine; 2]) -> Result<(), Failure> {
    sessions.iter_mut().zip(engines).try_for_each(|(session, engine)| session.mount(engine))
}

/// How names of one file are looked up and forgotten may make no difference: now and then all of
/// that begins anew.
fn interrupt(
    sessions: &mut [Session; 2],
    engines: [Engine; 2],
    case: &Case,
    nth: usize,
) -> Result<(), Difference> {
    /// After so many operations.
    const ROW: usize = 12;
    /// One sequence in so many.
    const RARELY: usize = 64;
    if case.links == Links::None || nth % ROW != ROW - 1 {
        return Ok(());
    }
    if case.ops.len() % RARELY == nth / ROW {
        // Not in a user namespace; and nothing of it has to be forgotten.
        std::fs::write("/proc/sys/vm/drop_caches", "2").ok();
        return Ok(());
    }
    sessions.iter_mut().try_for_each(Session::unmount)?;
    mount(sessions, engines)
}

fn step(sessions: &mut [Session; 2], engines: [Engine; 2], op: &Op) -> Result<(), Difference> {
    for session in sessions.iter_mut() {
        session.send(&op.to_string())?;
    }
    let mut outcomes = Vec::new();
    for (session, engine) in sessions.iter_mut().zip(engines) {
        let mut outcome = session.outcome()?;
        if engine.is_kernel() && matches!(op, Op::Readdir(_) | Op::FdReaddir(_)) {
            outcome = documented::without_listed_whiteouts(&outcome);
        }
        if engines.contains(&Engine::FuseOverlayfs) && engines.contains(&Engine::KernelIndex) {
            outcome = documented::without_link_count(&outcome);
        }
        outcomes.push(outcome);
    }
    let kernels = engines.iter().position(|engine| engine.is_kernel());
    let other = kernels.map_or(1, |nth| 1 - nth);
    if let Some(nth) = kernels {
        outcomes[nth] = documented::counting_names(op, &outcomes[nth], &outcomes[other]);
    }
    if outcomes[0] == outcomes[1] {
        return Ok(());
    }
    if kernels
        .is_some_and(|nth| documented::renames_onto_itself(op, &outcomes[nth], &outcomes[other]))
    {
        return Ok(());
    }
    if let Some(slot) = kernels.and_then(|nth| documented::lost_by_kernel(op, &outcomes[nth])) {
        // From here on the file is another one on each side.
        for session in sessions.iter_mut() {
            session.send(&Op::Close(slot).to_string())?;
            session.outcome()?;
        }
        return Ok(());
    }
    Err(format!(
        "`{op}`: {:?} says {}, {:?} says {}",
        engines[0], outcomes[0], engines[1], outcomes[1]
    ))
}

fn compare(what: &str, one: &Tree, two: &Tree) -> Result<(), Difference> {
    let differences = one.differences(two);
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{what}:\n    {}", differences.join("\n    ")))
}

fn compare_merged(sessions: &mut [Session; 2], when: &str) -> Result<(), Difference> {
    let (mut one, mut two) = (sessions[0].merged()?, sessions[1].merged()?);
    let mounted: Vec<_> = sessions.iter().filter_map(|session| session.mounted()).collect();
    if mounted.contains(&Engine::FuseOverlayfs) && mounted.contains(&Engine::KernelIndex) {
        documented::drop_link_counts(&mut one);
        documented::drop_link_counts(&mut two);
    }
    compare(&format!("merged tree {when}"), &one, &two)
}

fn run(sessions: &mut [Session; 2], engines: [Engine; 2], case: &Case) -> Result<(), Difference> {
    prepare(sessions, engines, case)?;
    let before = sessions[0].lower_layers()?;
    for (nth, op) in case.ops.iter().enumerate() {
        interrupt(sessions, engines, case, nth)?;
        step(sessions, engines, op)?;
    }
    compare_merged(sessions, "while mounted")?;
    for session in sessions.iter_mut() {
        session.unmount()?;
        for (nth, (old, new)) in before.iter().zip(session.lower_layers()?).enumerate() {
            compare(&format!("lower layer {nth} was changed"), old, &new)?;
        }
    }
    if case.links != Links::InLower {
        if engines[0].moves_by() == engines[1].moves_by() {
            compare_uppers(sessions, engines, &before)?;
        }
    } else if engines.contains(&Engine::FuseOverlayfs) {
        return Ok(());
    }
    mount(sessions, engines)?;
    compare_merged(sessions, "after a remount")?;
    sessions.iter_mut().try_for_each(Session::unmount)
}

fn compare_uppers(
    sessions: &mut [Session; 2],
    engines: [Engine; 2],
    lowers: &[Tree],
) -> Result<(), Difference> {
    let mut uppers = Vec::new();
    for (session, engine) in sessions.iter_mut().zip(engines) {
        uppers.push(Written { by_kernel: engine.is_kernel(), tree: session.upper()? });
    }
    if let [one, two] = uppers.as_mut_slice() {
        documented::reconcile(one, two, lowers);
        compare("upper", &one.tree, &two.tree)?;
    }
    Ok(())
}
