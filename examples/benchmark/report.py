"""Renders the measurements as Markdown tables and as an SVG bar chart."""

import platform
from html import escape
from pathlib import Path
from statistics import median

import measure
from tools import CHANGED, FIRST, SAME

JOBS = (FIRST, SAME, CHANGED)
OURS = "JTP"
LIMIT = "raw TCP copy (the limit)"


def say(text):
    print(text, flush=True)


class Table:
    """The measurements, and their medians over the timed rounds."""

    def __init__(self, records):
        self.cells = {}
        for record in records:
            if record["kind"] == "program":
                self.cells.setdefault((record["corpus"], record["job"], record["tool"]), []).append(record)

    def values(self, corpus, job, tool, what):
        records = self.cells.get((corpus, job, tool), [])
        timed = [record for record in records if record["round"]] if "memory" not in what else records
        return [record[what] for record in timed if what in record]

    def median(self, corpus, job, tool, what):
        values = self.values(corpus, job, tool, what)
        return median(values) if values else None


def seconds(value):
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def megabytes(value):
    if value is None:
        return "–"
    return f"{value / 1e6:,.0f} MB" if value >= 10e6 else f"{value / 1e6:,.1f} MB"


def memory(value):
    """0 if the run ended before any sample."""
    return megabytes(value or None)


def pair(one, other, show):
    return f"{show(one)} / {show(other)}"


def rows(table, corpus, tools):
    for job in JOBS:
        for tool in tools:
            if table.values(corpus.name, job, tool.name, "wall"):
                yield job, tool.name


def tables(table, corpora, tools):
    for corpus in corpora:
        yield f"\n## {corpus.title[0].upper()}{corpus.title[1:]}\n\n{corpus.describe()}.\n"
        for job in JOBS:
            names = [name for found, name in rows(table, corpus, tools) if found == job]
            if not names:
                continue
            yield f"\n**{job[0].upper()}{job[1:]}**\n\n"
            yield "| | time | range | ratio to JTP | CPU, server / client | memory, server / client | on the wire |\n"
            yield "|---|--:|--:|--:|--:|--:|--:|\n"
            ours = table.median(corpus.name, job, OURS, "wall")
            for name in names:

                def get(what):
                    return table.median(corpus.name, job, name, what)

                walls = table.values(corpus.name, job, name, "wall")
                ratio = f"{get('wall') / ours:.2f}" if ours else "–"
                bold = "**" if name.startswith(OURS) else ""
                yield (
                    f"| {bold}{name}{bold} | {seconds(get('wall'))} | {seconds(min(walls))} to {seconds(max(walls))} | {ratio} "
                    f"| {pair(get('server_cpu'), get('client_cpu'), seconds)} "
                    f"| {pair(get('server_memory'), get('client_memory'), memory)} | {megabytes(get('wire'))} |\n"
                )


CLAIMS = {
    "throughput": (
        "Server to a discarding reader, compared with a plain TCP copy: rate", 0.8, "at least"),
    "listing": ("Repeated LISTs on one connection, compared with sending the same bytes from a file: rate", 0.5, "at least"),
    "unchanged": ("`--batch` without changes, compared with reading and hashing all files: time", 0.1, "at most"),
    "restart": ("The server's second start, compared with reading and hashing all files: time", 0.1, "at most"),
    "server memory": ("The idle server's memory per image, compared with 64 B and the name: bytes", 1.0, "at most"),
    "client memory": ("The client's memory per image in a `--batch` without changes, compared with 100 B and the name: bytes", 1.0, "at most"),
    "tls start": ("`client --tls --list`, compared with 10 ms: time", 1.0, "at most"),
    "start": ("The server's first start, compared with reading and hashing all files: time", None, ""),
}


def verdict(value, goal, sense):
    if goal is None:
        return "–", ""
    met = value >= goal if sense == "at least" else value <= goal
    return f"{sense} {goal}", "yes" if met else "**no**"


def claims(records, table, corpora, tools):
    found = {}
    for record in records:
        if record["kind"] == "claim":
            key = (record["claim"], record["corpus"])
            found.setdefault(key, []).append(record["ours"] / record["other"])
    lines = []
    for corpus in corpora:
        if corpus.name in ("repository", "desktop"):
            continue
        for key, (what, goal, sense) in CLAIMS.items():
            ratios = found.get((key, corpus.name))
            if ratios:
                if key == "throughput" and corpus.name != "photos":
                    goal = None  # The goal applies to photographs only.
                wanted, met = verdict(median(ratios), goal, sense)
                lines.append(f"| {what} | {corpus.title} | {median(ratios):.2f} | {wanted} | {met} |\n")
        # Compared with the fastest other program.
        ours = [
            table.median(corpus.name, FIRST, name, "wall") for name in (OURS, f"{OURS}, 4 connections")
        ]
        others = [
            (table.median(corpus.name, FIRST, tool.name, "wall"), tool.name)
            for tool in tools
            if not tool.name.startswith((OURS, "raw", "rclone"))
        ]
        others = [(wall, name) for wall, name in others if wall]
        if others and ours[0]:
            best, name = min(others)
            wanted, met = verdict(ours[0] / best, 1.0, "at most")
            lines.append(f"| First sync, compared with the fastest other program ({name}): time | {corpus.title} | {ours[0] / best:.2f} | {wanted} | {met} |\n")
        encrypted = table.median(corpus.name, FIRST, f"{OURS}, TLS", "wall")
        if encrypted and ours[0] and corpus.name == "photos":
            wanted, met = verdict(encrypted / ours[0], 1.25, "at most")
            lines.append(f"| First sync over TLS, compared with plain: time | {corpus.title} | {encrypted / ours[0]:.2f} | {wanted} | {met} |\n")
        if ours[1] and ours[0] and corpus.line:
            wanted, met = verdict(ours[1] / ours[0], 1.0, "at most")
            lines.append(f"| First sync with 4 connections, compared with one: time | {corpus.title} | {ours[1] / ours[0]:.2f} | {wanted} | {met} |\n")
        rsync = table.median(corpus.name, FIRST, "rsync", "wall")
        if rsync and ours[0] and corpus.name == "tiny":
            wanted, met = verdict(ours[0] / rsync, 0.5, "at most")
            lines.append(f"| First sync, compared with rsync: time | {corpus.title} | {ours[0] / rsync:.2f} | {wanted} | {met} |\n")
    if not lines:
        return
    yield "\n## Performance goals\n\nEach row is a ratio of two measurements in one run: a ratio of medians, or a median of ratios.\n\n"
    yield "| | images | ratio | goal | met |\n|---|---|--:|---|---|\n"
    yield from lines


# --- the chart ---

COLOURS = {"ours": "#2563c9", "other": "#9aa5b1", "limit": "#d9a441"}
LABEL, PANEL, GAP, LINE, HEAD = 176, 290, 26, 19, 44


def colour(name):
    if name.startswith(OURS):
        return COLOURS["ours"]
    return COLOURS["limit"] if name == LIMIT else COLOURS["other"]


def bars(table, corpus, job, names, left, top, width):
    values = {name: table.median(corpus.name, job, name, "wall") for name in names}
    known = sorted(value for value in values.values() if value)
    if not known:
        return
    # Truncates the bars of programs that are many times slower than the others.
    longest = min(known[-1], 4 * known[len(known) // 2])
    room = width - 62
    for row, name in enumerate(names):
        value = values[name]
        y = top + row * LINE
        if value is None:
            continue
        length = max(1.5, min(value / longest, 1) * room)
        yield f'<rect x="{left}" y="{y + 2.5}" width="{length:.1f}" height="{LINE - 5}" rx="2" fill="{colour(name)}"/>'
        if value > longest:
            x = left + length - 16
            yield f'<path d="M{x} {y + LINE - 1}l5 {-LINE + 2}h5l-5 {LINE - 2}z" fill="#fff"/>'
        yield f'<text x="{left + length + 5:.1f}" y="{y + LINE - 5.5}" class="value">{seconds(value)}</text>'


def picture(table, corpora, tools, caption):
    body, top = [], 78
    width = LABEL + len(JOBS) * (PANEL + GAP)
    for corpus in corpora:
        names = [tool.name for tool in tools if any(table.values(corpus.name, job, tool.name, "wall") for job in JOBS)]
        if not names:
            continue
        size = f"{corpus.count:,} files, {corpus.bytes / 1e6:,.0f} MB"
        body.append(f'<text x="14" y="{top + 16}" class="title">{escape(corpus.title)}</text>')
        body.append(f'<text x="14" y="{top + 33}" class="note">{size}</text>')
        for column, job in enumerate(JOBS):
            left = LABEL + column * (PANEL + GAP)
            body.append(f'<text x="{left}" y="{top + 33}" class="job">{job}</text>')
            body.append(f'<path d="M{left - .5} {top + HEAD - 2}v{len(names) * LINE + 4}" stroke="#c5ccd3"/>')
            body += bars(table, corpus, job, names, left, top + HEAD, PANEL)
        for row, name in enumerate(names):
            y = top + HEAD + row * LINE + LINE - 5.5
            weight = ' font-weight="600"' if name.startswith(OURS) else ""
            body.append(f'<text x="{LABEL - 8}" y="{y}" text-anchor="end"{weight}>{escape(name)}</text>')
        top += HEAD + len(names) * LINE + 26
    legend = [("JTP", "ours"), ("others", "other"), ("the limit: a plain copy of the same files", "limit")]
    x, keys = LABEL, []
    for text, key in legend:
        keys.append(f'<rect x="{x}" y="52" width="11" height="11" rx="2" fill="{COLOURS[key]}"/>')
        keys.append(f'<text x="{x + 16}" y="62">{text}</text>')
        x += 40 + 6.2 * len(text)
    style = (
        "text{font:12px system-ui,'Segoe UI','DejaVu Sans',sans-serif;fill:#28323c}"
        ".title{font-size:15px;font-weight:600}.head{font-size:18px;font-weight:600}.job{font-weight:600}"
        ".note,.value{fill:#5b6771}.value{font-size:11px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" role="img" '
        f'aria-label="Time to sync folders of images">\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="14" y="28" class="head">Time to sync a folder of images (lower is better)</text>\n'
        f'<text x="14" y="46" class="note">{escape(caption)}</text>\n' + "\n".join(keys + body) + "\n</svg>\n"
    )


def kernel_and_memory():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return f"Linux {platform.release()}", f"{int(total.split()[1]) / 2**20:.0f} GiB"


def write(folder, records, tools, corpora, versions, processor, notes, args):
    table = Table(records)
    kernel, memory = kernel_and_memory()
    dates = sorted({record["when"] for record in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    rounds = max((record["round"] for record in records), default=0)
    programs = "; ".join(versions[name] for name in sorted(versions))
    machine = f"{processor}, {memory}, {kernel}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.svg").write_text(picture(table, corpora, tools, f"{machine}; {when}; medians of up to {rounds} rounds"))
    text = [
        "# Benchmark\n\n",
        "Written by [`examples/benchmark/run`](run), which lists its requirements. The same command regenerates it.\n\n",
        "![Bar chart of the sync times](results.svg)\n\n",
        f"- Machine: {machine}; client and server on the same machine, over loopback; folders on tmpfs unless a title says “disk”.\n",
        f"- Date: {when}. Medians of up to {rounds} timed rounds, after an untimed round that sampled memory and compared every byte of the copy. The programs take turns within a round. Programs that took over 20 s were timed once.\n",
        f"- Programs: {programs or 'none'}.\n",
        "- JTP's client hashes every image and creates each file atomically, by rename. So do rsync and rclone; curl, tar and the raw copy do not. Servers run before the timing starts; by then JTP's server has read the folder (see “first start”) and compressed the BMPs.\n",
        "- The `--batch` in “nothing changed” is the first one after the fetch. It reads no image: the fetch has written the client's index.\n",
        "- curl is given a list of URLs, which the other programs do not need, and sends `If-Modified-Since` for each file. tar writes directly to the connection.\n",
        "- Memory: the peak of all processes of a side, shared pages counted once; of clients that ran for less than 50 ms, with all shared pages. On the wire: IP packets with headers, both directions.\n",
    ]
    text.append("- Where JTP is slower than another program or misses a goal, the tables say so: “**no**”, and ratios below 1.\n")
    if any(corpus.line for corpus in corpora):
        text.append("- The slow line is [`delay.py`](delay.py): it limits the rate and delays each byte, on loopback. Slow start and losses are not simulated.\n")
    if any(corpus.deleted is not None for corpus in corpora):
        text.append(f"- The disk has {measure.file_system(args.disk)}. There the times include writing the copy to the disk (`sync -f`).\n")
    text += [f"- {note}\n" for note in notes]
    text += claims(records, table, corpora, tools)
    text += tables(table, corpora, tools)
    (folder / "RESULTS.md").write_text("".join(text))
    say(f"wrote {folder / 'RESULTS.md'} and results.svg")
