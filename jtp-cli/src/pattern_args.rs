//! The flags `--include` and `--exclude`.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use jtp_store::Patterns;

use crate::exit::Failure;
use crate::select_args::HEADING;

/// The patterns of `--include` and `--exclude`, in the order of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatternArgs(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    includes: bool,
    pattern: String,
}

impl PatternArgs {
    /// The patterns of these flags.
    ///
    /// # Errors
    ///
    /// A pattern is invalid. The command line has been checked for that.
    pub fn patterns(&self) -> Result<Patterns, Failure> {
        let mut patterns = Patterns::new();
        for Rule { includes, pattern } in &self.0 {
            let added = match includes {
                true => patterns.include(pattern),
                false => patterns.exclude(pattern),
            };
            patterns = added.map_err(|error| Failure::other(format!("{pattern}: {error}")))?;
        }
        Ok(patterns)
    }
}

const INCLUDE: &str = "include";
const EXCLUDE: &str = "exclude";

// Not derived: a derived field has the values of one flag only, and the order of both flags matters.
impl Args for PatternArgs {
    fn augment_args(command: Command) -> Command {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("GLOB")
                .action(ArgAction::Append)
                .value_parser(parse_pattern)
                .help_heading(HEADING)
                .help(help)
        };
        command
            .arg(flag(
                INCLUDE,
                "Fetch only images whose names match, such as '*.jpg'; repeatable. Of all --include and --exclude, the last match decides",
            ))
            .arg(flag(
                EXCLUDE,
                "Skip images whose names match; repeatable. A name without a match is fetched, unless the first pattern is an --include",
            ))
    }

    fn augment_args_for_update(command: Command) -> Command {
        PatternArgs::augment_args(command)
    }
}

impl FromArgMatches for PatternArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<PatternArgs, clap::Error> {
        let mut rules = Vec::new();
        for (name, includes) in [(INCLUDE, true), (EXCLUDE, false)] {
            let patterns = matches
                .try_get_many::<String>(name)
                .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, error))?;
            let indices = matches.indices_of(name).into_iter().flatten();
            for (at, pattern) in indices.zip(patterns.into_iter().flatten()) {
                let pattern = pattern.clone();
                rules.push((at, Rule { includes, pattern }));
            }
        }
        rules.sort_by_key(|(at, _)| *at);
        Ok(PatternArgs(
            rules.into_iter().map(|(_, rule)| rule).collect(),
        ))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = PatternArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

fn parse_pattern(text: &str) -> Result<String, String> {
    match Patterns::new().include(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The same flags of the program `server`, which compares paths below its folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathPatternArgs(PatternArgs);

impl PathPatternArgs {
    /// See [`PatternArgs::patterns`].
    ///
    /// # Errors
    ///
    /// See [`PatternArgs::patterns`].
    pub fn patterns(&self) -> Result<Patterns, Failure> {
        self.0.patterns()
    }
}

impl Args for PathPatternArgs {
    fn augment_args(command: Command) -> Command {
        let describe = |help: &'static str| {
            move |arg: Arg| arg.help(help).help_heading(crate::server_args::IMAGES)
        };
        PatternArgs::augment_args(command)
            .mut_arg(
                INCLUDE,
                describe(
                    "Share only files whose path below the folder matches, such as '*.jpg'; repeatable. Of all --include and --exclude, the last match decides",
                ),
            )
            .mut_arg(
                EXCLUDE,
                describe(
                    "Skip files whose path below the folder matches; repeatable. A file without a match is shared, unless the first pattern is an --include",
                ),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        PathPatternArgs::augment_args(command)
    }
}

impl FromArgMatches for PathPatternArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<PathPatternArgs, clap::Error> {
        PatternArgs::from_arg_matches(matches).map(PathPatternArgs)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}
