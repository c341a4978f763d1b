//! Steps with sub-folders.

use std::fs;
use std::path::PathBuf;

use super::{NAMES, NoStep, StepResult, User};
use crate::life::tree;
use jtp_kit::Rng;

impl User {
    pub(super) fn new_folder(&mut self, rng: &mut Rng) -> PathBuf {
        self.folders += 1;
        let name = match rng.percent(20) {
            true => (*rng.pick(&["a.png", "A", "Rome", "rome", "2024"])).to_owned(),
            false => format!("f{}", self.folders),
        };
        self.folder(rng).join(name)
    }

    pub(super) fn make_folder(&mut self, rng: &mut Rng) -> StepResult {
        if tree::folders(&self.root).len() > 8 {
            return Err(NoStep::Impossible);
        }
        let path = self.new_folder(rng);
        self.touch(&path);
        fs::create_dir(self.full(&path))?;
        for _ in 0..rng.below(4) {
            let file = path.join(rng.pick(NAMES));
            let bytes = self.picture(rng);
            fs::write(self.full(&file), bytes)?;
        }
        Ok(format!("makes the folder {path:?}"))
    }

    pub(super) fn move_folder(&mut self, rng: &mut Rng) -> StepResult {
        let from = self.sub_folder(rng)?;
        let to = self.new_folder(rng);
        if to.starts_with(&from) {
            return Err(NoStep::Impossible);
        }
        self.touch(&from);
        self.touch(&to);
        fs::rename(self.full(&from), self.full(&to))?;
        Ok(format!("moves the folder {from:?} to {to:?}"))
    }

    pub(super) fn swap_folders(&mut self, rng: &mut Rng) -> StepResult {
        let folders = tree::folders(&self.root);
        let (Some(one), Some(other)) = (rng.pick_any(&folders), rng.pick_any(&folders)) else {
            return Err(NoStep::Impossible);
        };
        if one.starts_with(&other) || other.starts_with(&one) {
            return Err(NoStep::Impossible);
        }
        self.exchange(&[one.clone(), other.clone()])?;
        Ok(format!("swaps the folders {one:?} and {other:?}"))
    }

    pub(super) fn delete_folder(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.sub_folder(rng)?;
        self.touch(&path);
        fs::remove_dir_all(self.full(&path))?;
        Ok(format!("deletes the folder {path:?}"))
    }

    /// Moves a folder away and back, as a file manager does on "undo".
    pub(super) fn move_and_undo(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.sub_folder(rng)?;
        self.touch(&path);
        let away = self.aside.join("away");
        fs::rename(self.full(&path), &away)?;
        fs::rename(away, self.full(&path))?;
        Ok(format!("moves the folder {path:?} away and back"))
    }
}
