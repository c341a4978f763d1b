//! Steps that change files in place, or what leads to them.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{NoStep, StepResult, User};
use jtp_kit::Rng;

impl User {
    /// Changes bytes of a file; sometimes its time is then set back, as some programs do.
    pub(super) fn edit_in_place(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let full = self.full(&path);
        let metadata = fs::metadata(&full)?;
        if metadata.len() < 40 {
            return Err(NoStep::Impossible);
        }
        let mut file = OpenOptions::new().write(true).open(&full)?;
        let middle = metadata.len() / 2;
        file.seek(SeekFrom::Start(middle))?;
        file.write_all(&rng.next().to_be_bytes())?;
        let restored = rng.percent(30);
        if restored {
            file.set_modified(metadata.modified()?)?;
        }
        drop(file);
        self.know(&path);
        let time = if restored {
            " and restores its time"
        } else {
            ""
        };
        Ok(format!("edits {path:?} in place{time}"))
    }

    /// Like Vim (a backup, then a new file), GIMP (a hidden file, then a rename) and ExifTool (which keeps the original).
    pub(super) fn edit_by_replacing(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let full = self.full(&path);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut bytes = fs::read(&full)?;
        bytes.extend(rng.next().to_be_bytes());
        self.touch(&path);
        let editor = *rng.pick(&["Vim", "GIMP", "ExifTool", "cp -p"]);
        match editor {
            "Vim" => {
                let backup = full.with_file_name(format!("{name}~"));
                fs::rename(&full, &backup)?;
                fs::write(&full, &bytes)?;
                fs::remove_file(backup)?;
            }
            "GIMP" => {
                let hidden = full.with_file_name(format!(".{name}.XYZ"));
                let written = fs::write(&hidden, &bytes).and_then(|()| fs::rename(&hidden, &full));
                if let Err(error) = written {
                    let _ = fs::remove_file(hidden);
                    return Err(error.into());
                }
            }
            "ExifTool" => {
                let temporary = full.with_file_name(format!("{name}.part"));
                fs::write(&temporary, &bytes)?;
                fs::rename(&full, full.with_file_name(format!("{name}_original")))?;
                fs::rename(temporary, &full)?;
            }
            _ => {
                // The same size and time, another file.
                let mut file = File::create(self.aside.join("copy"))?;
                let length = bytes.len() - 8;
                bytes.copy_within(length.., length.saturating_sub(8));
                bytes.truncate(length);
                file.write_all(&bytes)?;
                file.set_modified(fs::metadata(&full)?.modified()?)?;
                fs::rename(self.aside.join("copy"), &full)?;
            }
        }
        self.know(&path);
        Ok(format!("edits {path:?} like {editor}"))
    }

    pub(super) fn hard_link(&mut self, rng: &mut Rng) -> StepResult {
        let from = self.file(rng)?;
        let to = self.path(rng);
        self.touch(&from);
        self.touch(&to);
        fs::hard_link(self.full(&from), self.full(&to))?;
        Ok(format!("links {from:?} as {to:?}"))
    }

    /// A symbolic link: to a file, out of the folder, or to nothing.
    pub(super) fn link(&mut self, rng: &mut Rng) -> StepResult {
        let target = match (rng.below(4), self.file(rng)) {
            (0, _) => self.outside.clone(),
            (1, _) => PathBuf::from("nothing.png"),
            (_, path) => self.full(&path?),
        };
        let path = self.path(rng);
        self.touch(&path);
        symlink(&target, self.full(&path))?;
        Ok(format!("makes the link {path:?} to {target:?}"))
    }

    pub(super) fn truncate(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let file = OpenOptions::new().write(true).open(self.full(&path))?;
        let length = file.metadata()?.len();
        if length < 60 {
            return Err(NoStep::Impossible);
        }
        let to = if rng.percent(20) {
            0
        } else {
            length - 1 - rng.next() % (length / 4)
        };
        file.set_len(to)?;
        drop(file);
        self.know(&path);
        Ok(format!("truncates {path:?} from {length} to {to} bytes"))
    }

    pub(super) fn append(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let mut file = OpenOptions::new().append(true).open(self.full(&path))?;
        file.write_all(&rng.next().to_be_bytes())?;
        drop(file);
        self.know(&path);
        Ok(format!("appends to {path:?}"))
    }

    pub(super) fn change_times(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let far = Duration::from_secs(1 + rng.next() % 400_000_000);
        let now = SystemTime::now();
        let (time, when) = match rng.percent(50) {
            true => (now + far, "future"),
            false => (now - far, "past"),
        };
        let file = OpenOptions::new().write(true).open(self.full(&path))?;
        file.set_times(FileTimes::new().set_accessed(time).set_modified(time))?;
        drop(file);
        self.touch(&path);
        Ok(format!("sets the time of {path:?} to the {when}"))
    }

    pub(super) fn change_mode(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        let mode = *rng.pick(&[0, 0o600, 0o644, 0o444]);
        self.touch(&path);
        fs::set_permissions(self.full(&path), fs::Permissions::from_mode(mode))?;
        Ok(format!("gives {path:?} the mode {mode:o}"))
    }
}
