//! Names of directory entries, in three words. There may be millions. Two thirds of the names in a
//! root file system fit in place; an allocation for each would take more memory than the name.

/// The name of a directory entry, with a small value beside it.
#[derive(Clone)]
pub struct PackedName<T>(Form<T>);

/// Longest name in place, in bytes: three words, less its length, a tag and a value of one byte.
const ROOM: usize = 21;

#[derive(Clone)]
enum Form<T> {
    Short { beside: T, length: u8, bytes: [u8; ROOM] },
    Long { beside: T, bytes: Box<[u8]> },
}

const _: () = assert!(size_of::<PackedName<bool>>() == 24);
const _: () = assert!(size_of::<PackedName<()>>() == 24);

impl<T: Copy> PackedName<T> {
    /// Packs a name, with the value to be kept beside it.
    #[must_use]
    pub fn new(name: &[u8], beside: T) -> Self {
        let mut bytes = [0; ROOM];
        Self(match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(name);
                Form::Short { beside, length, bytes }
            }
            _ => Form::Long { beside, bytes: name.into() },
        })
    }

    /// The name as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { length, bytes, .. } => {
                bytes.get(..usize::from(*length)).unwrap_or_default()
            }
            Form::Long { bytes, .. } => bytes,
        }
    }

    /// The value beside the name.
    #[must_use]
    pub fn beside(&self) -> T {
        match self.0 {
            Form::Short { beside, .. } | Form::Long { beside, .. } => beside,
        }
    }
}

impl<T> std::fmt::Debug for PackedName<T>
where
    T: Copy,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_come_back() {
        for length in [0, 1, ROOM - 1, ROOM, ROOM + 1, 255] {
            let name = vec![b'n'; length];
            let packed = PackedName::new(&name, true);
            assert_eq!((packed.bytes(), packed.beside()), (&*name, true), "{length}");
        }
    }
}
