//! Ends a process as a user, a service manager or the system does.

use std::process::Command;

#[cfg(unix)]
pub use unix::Signal;
#[cfg(unix)]
pub(crate) use unix::send;
#[cfg(windows)]
pub use windows::Signal;
#[cfg(windows)]
pub(crate) use windows::send;

/// Prepares a command whose process gets signals: on Windows, only a process group of its own can get Ctrl-Break.
pub(crate) fn prepare(command: &mut Command) -> &mut Command {
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        /// `CREATE_NEW_PROCESS_GROUP`
        const NEW_GROUP: u32 = 0x200;
        command.creation_flags(NEW_GROUP);
    }
    command
}

#[cfg(unix)]
mod unix {
    use std::process::Child;

    pub use rustix::process::Signal;
    use rustix::process::{Pid, kill_process};

    #[track_caller]
    pub(crate) fn send(child: &Child, signal: Signal) {
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

#[cfg(windows)]
mod windows {
    use std::ffi::c_void;
    use std::io;
    use std::os::windows::io::AsRawHandle;
    use std::process::Child;

    /// What stands for the signals of Unix.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Signal {
        /// Ctrl-Break.
        INT,
        /// Ctrl-Break.
        TERM,
        /// `TerminateProcess`
        KILL,
    }

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GenerateConsoleCtrlEvent(event: u32, process_group: u32) -> i32;
        fn TerminateProcess(process: *mut c_void, exit_code: u32) -> i32;
    }

    #[track_caller]
    pub(crate) fn send(child: &Child, signal: Signal) {
        const CTRL_BREAK: u32 = 1;
        // SAFETY: the handle and the group are those of a child that has not been waited for.
        let sent = unsafe {
            match signal {
                Signal::KILL => TerminateProcess(child.as_raw_handle(), 1),
                _ => GenerateConsoleCtrlEvent(CTRL_BREAK, child.id()),
            }
        };
        assert!(sent != 0, "{signal:?}: {}", io::Error::last_os_error());
    }
}
