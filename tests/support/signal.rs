//! Ends a process as a user, a service manager or the system does.

use std::process::Command;

#[cfg(unix)]
pub(crate) use unix::{Signal, send};
#[cfg(windows)]
pub(crate) use windows::{Signal, send};

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

    pub(crate) use rustix::process::Signal;
    use rustix::process::{Pid, kill_process};

    #[track_caller]
    pub(crate) fn send(child: &mut Child, signal: Signal) {
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

#[cfg(windows)]
mod windows {
    use std::io;
    use std::process::Child;

    /// What stands for the signals of Unix.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Signal {
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
    }

    #[track_caller]
    pub(crate) fn send(child: &mut Child, signal: Signal) {
        const CTRL_BREAK: u32 = 1;
        if signal == Signal::KILL {
            return child.kill().unwrap();
        }
        // SAFETY: the arguments are numbers. The group is that of a child that has not been waited for.
        let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK, child.id()) };
        assert!(sent != 0, "Ctrl-Break: {}", io::Error::last_os_error());
    }
}
