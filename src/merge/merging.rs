//! The merging of one directory, layer by layer, from the topmost down.

use std::sync::Arc;

use super::context::LookupContext;
use super::descent::Descent;
use super::found::{Found, What};
use super::stack::{DirStack, MetaSource, lend};
use crate::error::{Context, Errno, Result};
use crate::format::dirmark::DirMarks;
use crate::format::redirect::Redirect;
use crate::layer::{LayerDir, LowerDir, UpperDir};
use crate::sys::{Name, Stat};

/// The state of a name in one layer.
#[derive(Debug)]
pub enum Shown {
    /// A whiteout: nothing below it shows either.
    Whiteout,
    /// An object with these attributes.
    Object(Stat),
}

/// Looks at one name of one layer; `None` if the layer does not have it.
///
/// # Errors
/// Those of the layer.
pub fn shown(above: &Arc<LayerDir>, name: Name<'_>) -> Result<Option<Shown>> {
    Ok(match above.stat_entry(name)? {
        None => None,
        Some(stat) if above.is_whiteout(name, &stat)? => Some(Shown::Whiteout),
        Some(stat) => Some(Shown::Object(stat)),
    })
}

/// The directory that holds the topmost object of a name.
#[derive(Clone, Copy, Debug)]
pub enum Top<'a> {
    /// A directory of the upper.
    Upper(&'a UpperDir),
    /// A directory of a lower.
    Lower(&'a LowerDir),
}

impl Top<'_> {
    /// The directory to be read, whatever its kind.
    pub fn above(&self) -> &Arc<LayerDir> {
        match self {
            Self::Upper(upper) => upper.dir(),
            Self::Lower(lower) => lower.dir(),
        }
    }
}

/// The search for the parts of one directory, on its way down through the layers.
#[derive(Debug)]
pub struct Merging<'a> {
    context: LookupContext<'a>,
    dir: &'a DirStack,
    name: Name<'a>,
    gathered: Gathered,
}

impl<'a> Merging<'a> {
    /// Begins the search for the entry `name` of `dir`.
    pub fn new(context: LookupContext<'a>, dir: &'a DirStack, name: Name<'a>) -> Self {
        Self { context, dir, name, gathered: Gathered::default() }
    }

    /// Merges the directory. Its topmost part is in `top` and has the attributes `stat`. The lowers
    /// at the positions `below` may have more parts.
    ///
    /// # Errors
    /// Those of the layers; EINVAL for a malformed redirect; EPERM for one that is not followed;
    /// ELOOP for the upper or the work directory inside a lower.
    pub fn merge(mut self, top: Top<'_>, stat: &Stat, below: &[u16]) -> Result<Found> {
        match top {
            Top::Upper(upper) => self.gathered.upper = Some(upper.child(self.name, stat)),
            Top::Lower(lower) => self.gathered.lowers.push(lower.child(self.name, stat)),
        }
        self.add(top.above(), self.name, Some(*stat), !below.is_empty())?;
        self.go_down(below)?;
        self.gathered.finish(stat)
    }

    /// Adds the parts that the lowers have below the topmost part.
    fn go_down(&mut self, below: &[u16]) -> Result<()> {
        let mut below = below;
        while let Some((level, rest)) = below.split_first() {
            below = rest;
            if self.gathered.closed || self.gathered.redirect.is_some() {
                break;
            }
            let Some(lower) = self.dir.lowers.get(usize::from(*level)) else { break };
            let more = !below.is_empty();
            if self.is_known_by_listing(lower.dir()) {
                self.gathered.lowers.push(lower.child_as_listed(self.name));
                self.add(lower.dir(), self.name, None, more)?;
                continue;
            }
            let stat = match shown(lower.dir(), self.name)? {
                None => continue,
                Some(Shown::Object(stat)) if stat.kind().is_dir() => stat,
                Some(_) => break,
            };
            self.context.traps.check(&stat).context(|| self.name.to_string())?;
            self.gathered.lowers.push(lower.child(self.name, &stat));
            self.add(lower.dir(), self.name, Some(stat), more)?;
        }
        if let Some((layer, redirect)) = self.gathered.redirect.take() {
            self.follow(layer, &redirect)?;
        }
        Ok(())
    }

    /// Whether the listing tells all that is asked of a part below the topmost lower part.
    fn is_known_by_listing(&self, above: &LayerDir) -> bool {
        above.settles().is_none()
            && !self.gathered.lowers.is_empty()
            && !self.is_undecided()
            && self.context.traps.is_empty()
    }

    /// Follows a redirect: the directory had another name when the layers below were made.
    fn follow(&mut self, layer: u16, redirect: &Redirect) -> Result<()> {
        let mut descent = Descent::new(self.context, self.dir, self.name, layer);
        descent.redirect(redirect);
        while let Some(place) = descent.step()? {
            if !place.stat.kind().is_dir() {
                break;
            }
            self.context.traps.check(&place.stat).context(|| self.name.to_string())?;
            let name = Name::new(&place.name)?;
            self.gathered.lowers.push(place.above.child(name, &place.stat));
            self.add(place.above.dir(), name, Some(place.stat), true)?;
            if self.gathered.closed {
                break;
            }
            if let Some((_, redirect)) = self.gathered.redirect.take() {
                descent.redirect(&redirect);
            }
        }
        Ok(())
    }

    /// Adds one part. Its marks are read only if they can matter: opacity if something may follow,
    /// delegation if the metadata has no source yet and there is another part, a redirect if layers
    /// are below. `stat` may be missing for any part but the first, once the source is known.
    fn add(
        &mut self,
        above: &Arc<LayerDir>,
        name: Name<'_>,
        stat: Option<Stat>,
        more: bool,
    ) -> Result<()> {
        let undecided = self.is_undecided();
        let gathered = &mut self.gathered;
        let first = gathered.count() == 1;
        let may_redirect = self.context.has_below(above.layer());
        let wanted = more || may_redirect || (undecided && !first);
        let marks = if wanted { above.marks_of(name)? } else { DirMarks::default() };
        if let Some(stat) = stat
            && gathered.source.is_none()
            && !(undecided && marks.dirmeta_delegate)
        {
            let position = match gathered.lowers.len() {
                _ if first => MetaSource::Top,
                count => MetaSource::Lower(count.saturating_sub(1)),
            };
            gathered.source = Some((stat, position));
        }
        if more {
            gathered.closed = marks.opaque || gathered.newest()?.has_aufs_opaque()?;
        }
        gathered.closed |= marks.opaque;
        // A redirect of an opaque directory or of the lowest layer leads nowhere, whatever it says.
        if may_redirect
            && !gathered.closed
            && let Some(redirect) = marks.redirect_to_follow()?
        {
            self.context.check(&redirect)?;
            gathered.redirect = Some((above.layer(), redirect));
        }
        Ok(())
    }

    /// Whether the part that lends the metadata has not been found yet.
    fn is_undecided(&self) -> bool {
        self.context.delegation && self.gathered.source.is_none()
    }
}

/// The parts of one directory, as the search finds them.
#[derive(Debug, Default)]
struct Gathered {
    upper: Option<UpperDir>,
    lowers: Vec<LowerDir>,
    /// Attributes and position of the first part that does not delegate its metadata.
    source: Option<(Stat, MetaSource)>,
    /// The newest part is opaque.
    closed: bool,
    /// The redirect of the newest part, with the number of its layer.
    redirect: Option<(u16, Redirect)>,
}

impl Gathered {
    fn count(&self) -> usize {
        usize::from(self.upper.is_some()) + self.lowers.len()
    }

    fn newest(&self) -> Result<&Arc<LayerDir>> {
        let newest = self.lowers.last().map(LowerDir::dir);
        newest.or(self.upper.as_ref().map(UpperDir::dir)).ok_or_else(|| Errno::EIO.into())
    }

    fn finish(self, top: &Stat) -> Result<Found> {
        let (stat, meta) = match self.source {
            None | Some((_, MetaSource::Top)) => (*top, MetaSource::Top),
            Some((source, meta)) => (lend(top, &source), meta),
        };
        let dir = DirStack { upper: self.upper, lowers: self.lowers.into(), meta };
        let origin = dir.origin()?;
        Ok(Found::new(stat, origin, What::Dir(dir)))
    }
}
