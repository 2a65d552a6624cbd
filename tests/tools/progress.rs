//! Who looks at a terminal sees where a tool is.

use std::process::Command;

use crate::archive::archive;
use crate::call::{call, layers};
use crate::needs;
use crate::support::process::{output, text};
use crate::support::{Scratch, binary};

/// What a bar clears its line with (ECMA-48, erase in line).
const CLEAR: &str = "\u{1b}[2K";

#[test]
fn a_bar_on_a_terminal_and_nowhere_else() {
    needs!(root, script);
    let s = Scratch::new();
    s.upper.file("d/f", "x");
    s.base().file("layer.tar", archive(&["f d/f = x"]));
    let base = s.base().root().display();
    let options = layers(&s).into_string().unwrap();
    for args in [
        format!("diff -o {options} -f {base}/out.tar"),
        format!("apply {base}/layer.tar {base}/OUT"),
        format!("check -o {options},workdir={}", s.work.root().display()),
        format!("convert {}", s.upper.root().display()),
    ] {
        let on_terminal = format!("{} {}", binary().display(), args.replace("OUT", "one"));
        let mut command = Command::new("script");
        command.args(["-qec", &on_terminal, "/dev/null"]).stdin(std::process::Stdio::null());
        let done = output(&mut command);
        let shown = text(&done.stdout);
        assert!(done.status.success() && shown.contains(CLEAR), "{args}: {shown:?}");
        let done = call(args.replace("OUT", "other").split(' '));
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success() && !said.contains('\u{1b}'), "{args}: {said:?}");
    }
}
