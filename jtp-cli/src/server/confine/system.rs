//! Confines the process with Landlock.

use std::collections::BTreeSet;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

use super::Needs;

/// The version whose access rights are used. Rights that an older kernel does not know are left out.
const VERSION: ABI = ABI::V6;

pub(super) fn confine(needs: &Needs) -> Result<String, String> {
    match restrict(needs) {
        Ok(confined) => confined,
        Err(error) => Err(format!("Landlock failed: {error}")),
    }
}

/// A service manager may listen for notifications on an abstract socket.
fn scope() -> BitFlags<Scope> {
    let notify = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    match notify.as_encoded_bytes().first() {
        Some(b'@') => Scope::Signal.into(),
        _ => Scope::from_all(VERSION),
    }
}

fn access_net(needs: &Needs) -> BitFlags<AccessNet> {
    match needs.connects {
        true => AccessNet::BindTcp.into(),
        false => AccessNet::from_all(VERSION),
    }
}

fn restrict(needs: &Needs) -> Result<Result<String, String>, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(VERSION)
        & !(AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeSock
            | AccessFs::MakeFifo
            | AccessFs::MakeSym
            | AccessFs::IoctlDev);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(access_net(needs))?
        .scope(scope())?
        .create()?;
    // They limit the processors of this process, from which numbers of threads are derived.
    let control_groups = BTreeSet::from(["/sys/fs/cgroup".into()]);
    let own_control_group = BTreeSet::from(["/proc/self/cgroup".into()]);
    // A disk that is mounted in a sub-folder is found by it.
    let mount_table = BTreeSet::from(["/proc/self/mountinfo".into()]);
    let grants = [
        (&control_groups, read),
        (&own_control_group, AccessFs::ReadFile.into()),
        (&mount_table, AccessFs::ReadFile.into()),
        (&needs.read_folders, read),
        (&needs.read_files, AccessFs::ReadFile.into()),
        (&needs.write_folders, write),
    ];
    for (paths, access) in grants {
        for path in paths {
            // A folder that is missing now, such as an empty place for a disk, needs no rule.
            let Ok(folder) = PathFd::new(path) else {
                continue;
            };
            ruleset = ruleset.add_rule(PathBeneath::new(folder, access))?;
        }
    }
    let status = ruleset.all_threads(true)?.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock is disabled in this kernel".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("this kernel has no Landlock".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("Landlock (version {})", effective_abi as i32))
        }
        _ => Ok("Landlock".to_owned()),
    })
}
