//! Tests of what the log says of folders that cannot be read.

use super::*;
use crate::dir::select::Naming;
use jtp_kit::logged_by;

#[test]
fn w9_the_log_says_when_a_folder_cannot_be_read_and_when_it_can_again() {
    let refused = || {
        vec![(
            Name::from(OsStr::new("a")),
            io::ErrorKind::PermissionDenied.into(),
        )]
    };
    let name = Name::from(OsStr::new("b/c.png"));
    let messages = logged_by(|| {
        let log = FileLog::new(Naming::Tree);
        let mut unreadable = Unreadable::default();
        for found in [refused(), refused(), Vec::new(), Vec::new()] {
            unreadable.set_folders(&Scope::Whole, &found, false, &log);
        }
        unreadable.insert(&name, None, "permission denied", &log);
        unreadable.remove(&name, true, &log);
    });
    let expected = [
        "cannot read a sub-folder",
        "a sub-folder can be read again",
        "cannot read images of a folder",
        "all images of a folder can be read again",
    ];
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for ((_, message), expected) in messages.iter().zip(expected) {
        assert!(message.starts_with(expected), "{messages:?}");
    }
}
