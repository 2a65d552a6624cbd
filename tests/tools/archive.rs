//! Archives made of lines, hostile ones among them.
//!
//! A line is `TYPE PATH` with what the type has: `f a = data`, `l a -> target`, `h a -> other`,
//! `c a 1,3`, and `d`, `p`. Names are not checked.

const BLOCK: usize = 512;

/// The archive that these lines describe.
pub fn archive(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        out.extend_from_slice(&entry(line));
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// One entry.
pub fn entry(line: &str) -> Vec<u8> {
    let (kind, rest) = line.split_once(' ').unwrap();
    let (name, data) = rest.split_once(" = ").unwrap_or((rest, ""));
    let (name, link) = name.split_once(" -> ").unwrap_or((name, ""));
    let (name, numbers) = match kind {
        "c" | "b" => name.split_once(' ').unwrap(),
        _ => (name, "0,0"),
    };
    let (major, minor) = numbers.split_once(',').unwrap();
    let mut header = tar::Header::new_ustar();
    let fields = header.as_ustar_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    let flags =
        [("f", b'0'), ("h", b'1'), ("l", b'2'), ("c", b'3'), ("b", b'4'), ("d", b'5'), ("p", b'6')];
    fields.typeflag[0] = flags.iter().find(|(letter, _)| *letter == kind).unwrap().1;
    header.set_mode(if kind == "d" { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1000);
    header.set_size(data.len() as u64);
    header.set_device_major(major.parse().unwrap()).unwrap();
    header.set_device_minor(minor.parse().unwrap()).unwrap();
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data.as_bytes());
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}
