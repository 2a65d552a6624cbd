//! A descent through the layers below one object, along redirects too.
//!
//! In most directories a name means the same name in every layer, and the index has the layers of
//! it. Below a redirect, and for the data of a metacopy file, each layer has to be searched.

use std::sync::Arc;

use super::context::LookupContext;
use super::stack::DirStack;
use crate::error::Result;
use crate::format::redirect::Redirect;
use crate::layer::{LayerDir, LowerDir};
use crate::sys::{Name, Stat};

/// An object that the descent has reached.
#[derive(Debug)]
pub struct Place {
    /// The directory of a lower that holds it.
    pub above: LowerDir,
    /// Its name there.
    pub name: Box<[u8]>,
    /// Its attributes.
    pub stat: Stat,
}

/// The name or path of the object in the layers further down.
#[derive(Clone, Debug)]
enum Way {
    /// A name in the directories of the parent.
    Sibling(Box<[u8]>),
    /// A path from the root of the layer.
    Path(Vec<Box<[u8]>>),
}

/// A descent from one object.
#[derive(Debug)]
pub struct Descent<'a> {
    context: LookupContext<'a>,
    parent: &'a DirStack,
    way: Way,
    /// Number of the layer that was searched last.
    layer: u16,
    done: bool,
    /// The last redirect was a path from the root.
    absolute: bool,
}

impl<'a> Descent<'a> {
    /// Begins below layer `layer`, for the entry `name` of `parent`.
    pub fn new(
        context: LookupContext<'a>,
        parent: &'a DirStack,
        name: Name<'_>,
        layer: u16,
    ) -> Self {
        let way = Way::Sibling(name.bytes().into());
        Self { context, parent, way, layer, done: false, absolute: false }
    }

    /// Applies the redirect of the object that was found last.
    pub fn redirect(&mut self, redirect: &Redirect) {
        // A path from the root begins anew, even below an opaque directory (`ovl_check_redirect`,
        // fs/overlayfs/namei.c).
        self.absolute = matches!(redirect, Redirect::Absolute(_));
        self.done &= !self.absolute;
        self.way = match (&self.way, redirect) {
            (Way::Sibling(_), Redirect::Sibling(name)) => Way::Sibling(name.clone()),
            (Way::Sibling(_), Redirect::Absolute(path)) => Way::Path(path.clone()),
            (Way::Path(path), redirect) => {
                Way::Path(redirect.apply(path, path.len().saturating_sub(1)))
            }
        };
    }

    /// Finds the file in a data-only layer that the redirects lead to. The last redirect has to be
    /// absolute, and marks mean nothing in these layers (`ovl_lookup_data_layers`,
    /// fs/overlayfs/namei.c).
    pub fn in_data_only(&self) -> Result<Option<Place>> {
        let Way::Path(path) = &self.way else { return Ok(None) };
        if !self.absolute {
            return Ok(None);
        }
        for root in self.context.data_only {
            if let Some(found) = plain_file(root, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Finds the next object of any kind; `None` at the end or at a whiteout.
    pub fn step(&mut self) -> Result<Option<Place>> {
        while !self.done && usize::from(self.layer) < self.context.roots.len() {
            let root = self.context.roots.get(usize::from(self.layer));
            self.layer += 1;
            let found = match self.way.clone() {
                Way::Sibling(name) => self.sibling(&name)?,
                Way::Path(path) => match root {
                    Some(root) => self.walk(root, &path)?,
                    None => None,
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn sibling(&mut self, name: &[u8]) -> Result<Option<Place>> {
        let here = self.parent.lowers.iter().find(|dir| dir.dir().layer() == self.layer);
        match here {
            Some(above) => self.look(above, name),
            None => Ok(None),
        }
    }

    fn walk(&mut self, root: &LowerDir, path: &[Box<[u8]>]) -> Result<Option<Place>> {
        let Some((last, above)) = path.split_last() else { return Ok(None) };
        let mut here = root.clone();
        for (position, component) in above.iter().enumerate() {
            let Some(place) = self.look(&here, component)? else { return Ok(None) };
            if !place.stat.kind().is_dir() {
                self.done = true;
                return Ok(None);
            }
            let name = Name::new(component)?;
            let marks = here.dir().marks_of(name)?;
            here = here.child(name, &place.stat);
            // Below an opaque directory this layer still counts, and deeper ones do not.
            if marks.opaque || here.dir().has_aufs_opaque()? {
                self.done = true;
            } else if self.context.has_below(here.dir().layer())
                && let Some(redirect) = marks.redirect_to_follow()?
            {
                self.context.check(&redirect)?;
                self.done &= matches!(redirect, Redirect::Sibling(_));
                self.way = Way::Path(redirect.apply(path, position));
            }
        }
        self.look(&here, last)
    }

    /// Looks at one name of one layer. A whiteout ends the descent. A whiteout file beside an
    /// object (`.wh.NAME`) ends it after that object.
    fn look(&mut self, above: &LowerDir, name: &[u8]) -> Result<Option<Place>> {
        let name = Name::new(name)?;
        let dir: &Arc<LayerDir> = above.dir();
        let found = dir.stat_entry(name)?;
        if let Some(stat) = &found
            && dir.is_whiteout(name, stat)?
        {
            self.done = true;
            return Ok(None);
        }
        self.done |= dir.has_whiteout_file(name)?;
        Ok(found.map(|stat| Place { above: above.clone(), name: name.bytes().into(), stat }))
    }
}

/// Finds the regular file at a path of a data-only layer, where marks mean nothing.
fn plain_file(root: &LowerDir, path: &[Box<[u8]>]) -> Result<Option<Place>> {
    let Some((last, above)) = path.split_last() else { return Ok(None) };
    let mut here = root.clone();
    for component in above {
        let name = Name::new(component)?;
        match here.dir().stat_entry(name)? {
            Some(stat) if stat.kind().is_dir() => here = here.child(name, &stat),
            _ => return Ok(None),
        }
    }
    let found = here.dir().stat_entry(Name::new(last)?)?.filter(|stat| stat.kind().is_file());
    Ok(found.map(|stat| Place { above: here, name: last.clone(), stat }))
}
