//! What the applications at both ends saw.

use std::fmt;

/// The log of a run. What each end saw is in order; what the two saw at the same time is in none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Log {
    pub(crate) client: Vec<String>,
    pub(crate) server: Vec<String>,
}

impl Log {
    pub(crate) fn has(&self, what: &str) -> bool {
        let mut lines = self.client.iter().chain(&self.server);
        lines.any(|line| line.contains(what))
    }

    /// The same where it makes no difference whether a client saw the end of its stream before it asked or
    /// after: that is a race which nobody can decide.
    pub(crate) fn blurred(mut self) -> Log {
        for line in &mut self.client {
            if line.ends_with("error: misuse: the connection has ended") {
                "  error: protocol: the connection ended before the response was complete"
                    .clone_into(line);
            }
        }
        self
    }
}

/// Two logs, line by line: what only the reference has (`-`), and what only the adapters have (`+`).
pub(crate) struct Diff<'a> {
    pub(crate) reference: &'a Log,
    pub(crate) adapters: &'a Log,
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "(- the bare cores, + the adapters)")?;
        part(f, "client", &self.reference.client, &self.adapters.client)?;
        part(f, "server", &self.reference.server, &self.adapters.server)
    }
}

fn part(f: &mut fmt::Formatter<'_>, end: &str, a: &[String], b: &[String]) -> fmt::Result {
    writeln!(f, "{end}:")?;
    // The length of the longest common part of a[i..] and b[j..].
    let mut common = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            writeln!(f, "    {}", a[i])?;
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            writeln!(f, "  - {}", a[i])?;
            i += 1;
        } else {
            writeln!(f, "  + {}", b[j])?;
            j += 1;
        }
    }
    Ok(())
}

#[test]
fn the_diff_shows_what_is_missing_and_what_is_too_much() {
    let log = |client: &[&str]| Log {
        client: client.iter().map(|line| (*line).to_owned()).collect(),
        server: Vec::new(),
    };
    let diff = Diff {
        reference: &log(&["a", "b", "c"]),
        adapters: &log(&["a", "x", "c", "d"]),
    };
    let shown = diff.to_string();
    let client: Vec<&str> = shown.lines().skip(2).take(5).collect();
    assert_eq!(client, ["    a", "  - b", "  + x", "    c", "  + d"]);
}
