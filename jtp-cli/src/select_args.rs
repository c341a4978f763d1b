//! Flags that say which images a command concerns.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use jtp_core::{FileType, ImageId};
use jtp_sync::Selection;

use crate::exit::Failure;
use crate::pattern_args::PatternArgs;

pub(crate) const HEADING: &str = "Which images";

/// Which images a command concerns.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectArgs {
    /// `--include` and `--exclude`.
    #[command(flatten)]
    pub patterns: PatternArgs,

    /// Only images of these types, separated by commas
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        ignore_case = true,
        help_heading = HEADING
    )]
    pub types: Vec<TypeName>,

    /// Only the image with this ID, 16 hexadecimal digits as printed by --list; repeatable
    #[arg(long, value_name = "ID", value_parser = parse_id, help_heading = HEADING)]
    pub get: Vec<ImageId>,
}

/// A type of images on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeName {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
    /// BMP.
    Bmp,
    /// GIF.
    Gif,
    /// Any other type.
    Other,
}

// Not derived: descriptions of the values would give `--help` its long form.
impl ValueEnum for TypeName {
    fn value_variants<'a>() -> &'a [TypeName] {
        use TypeName::{Bmp, Gif, Jpeg, Other, Png, Webp};
        &[Png, Jpeg, Webp, Bmp, Gif, Other]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            TypeName::Png => PossibleValue::new("png"),
            TypeName::Jpeg => PossibleValue::new("jpeg").alias("jpg"),
            TypeName::Webp => PossibleValue::new("webp"),
            TypeName::Bmp => PossibleValue::new("bmp"),
            TypeName::Gif => PossibleValue::new("gif"),
            TypeName::Other => PossibleValue::new("other"),
        })
    }
}

impl SelectArgs {
    /// The selection of these flags.
    ///
    /// # Errors
    ///
    /// A pattern is invalid. The command line has been checked for that.
    pub fn selection(&self) -> Result<Selection, Failure> {
        let types = self.types.iter().map(|name| match name {
            TypeName::Png => FileType::Png,
            TypeName::Jpeg => FileType::Jpeg,
            TypeName::Webp => FileType::WebP,
            TypeName::Bmp => FileType::Bmp,
            TypeName::Gif => FileType::Gif,
            TypeName::Other => FileType::Other,
        });
        Ok(Selection::all()
            .types(types)
            .ids(self.get.iter().copied())
            .patterns(self.patterns.patterns()?))
    }
}

fn parse_id(text: &str) -> Result<ImageId, String> {
    text.parse()
        .map_err(|_| "expected 16 hexadecimal digits, as printed by --list".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_args::ClientArgs;
    use clap::Parser;

    fn selection(line: &str) -> Selection {
        let words = std::iter::once("client").chain(line.split_whitespace());
        let args = ClientArgs::try_parse_from(words).unwrap();
        args.select.selection().unwrap()
    }

    #[test]
    fn order_of_includes_and_excludes_on_the_command_line_is_kept() {
        let names = ["a.jpg", "a.png", "b.jpg"];
        for (line, expected) in [
            ("", &names[..]),
            ("--include *.jpg --exclude a.*", &["b.jpg"]),
            ("--exclude a.* --include *.jpg", &["a.jpg", "b.jpg"]),
            ("--exclude a.* --batch --include a.png", &["a.png", "b.jpg"]),
            (
                "--include a.* --exclude *.jpg --include a.jpg",
                &["a.jpg", "a.png"],
            ),
            ("--exclude=a.* --exclude=b.*", &[]),
        ] {
            let selection = selection(line);
            let is_selected = |name: &&&str| selection.selects(ImageId(1), name, FileType::Png);
            let selected: Vec<_> = names.iter().filter(is_selected).copied().collect();
            assert_eq!(selected, expected, "{line}");
        }
    }

    #[test]
    fn types_and_ids_are_parsed_and_add_up() {
        let types = selection("--type PNG,jpg --type other");
        let selects = |file_type| types.selects(ImageId(1), "x", file_type);
        assert!(
            [FileType::Png, FileType::Jpeg, FileType::Other]
                .into_iter()
                .all(selects)
        );
        assert!(
            ![FileType::WebP, FileType::Bmp, FileType::Gif]
                .into_iter()
                .any(selects)
        );
        let ids = selection("--get 00000000000000ff --get 00000000000000FE");
        assert!(ids.requested_ids().eq([ImageId(0xfe), ImageId(0xff)]));
        assert!(selection("--batch").is_all());
    }
}
