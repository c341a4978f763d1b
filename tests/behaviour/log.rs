//! The observations of the applications at both ends.

use std::fmt;

/// The log of a run. Each end's lines are in order; there is no order between the two ends.
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

    /// Maps the two errors of a stream that ended around a request to one: whether the client sees the end before or
    /// after it sends the request is a race.
    pub(crate) fn without_eof_race(mut self) -> Log {
        for line in &mut self.client {
            if line.ends_with("error: misuse: the connection has ended") {
                "  error: protocol: the connection ended before the response was complete"
                    .clone_into(line);
            }
        }
        self
    }
}

/// A line diff of two logs: `-` for lines of the reference only, `+` for lines of the adapters only.
pub(crate) struct Diff<'a> {
    pub(crate) reference: &'a Log,
    pub(crate) adapters: &'a Log,
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "(- reference, + adapters)")?;
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
fn the_diff_marks_missing_and_extra_lines() {
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
