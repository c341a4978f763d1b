"""The folders of images, built from packages that are downloaded once and cached."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

EMOJI_VERSION = "16.0.0"
EMOJI = ["apple", "google", "twitter", "facebook"]
WALLPAPERS = [
    "gnome-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
    "sway-backgrounds",
    "ukui-wallpapers",
    "xfdesktop4-data",
]
# The smallest download.
DESKTOP = ["xfdesktop4-data"]
PNG = b"\x89PNG\r\n\x1a\n"
REPOSITORY = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """A corpus that cannot be built on this machine."""


def command(*argv, cwd=None):
    if not shutil.which(argv[0]):
        raise Unavailable(f"{argv[0]} is not installed")
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{' '.join(argv)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def with_comment(image, text):
    """The same picture with different bytes, by a comment or a changed pixel; None if the format is not supported."""
    if image.startswith(PNG):
        # Inserts a tEXt chunk before IEND, the last 12 bytes.
        chunk = b"tEXtComment\0" + text.encode()
        crc = zlib.crc32(chunk).to_bytes(4, "big")
        return image[:-12] + (len(chunk) - 4).to_bytes(4, "big") + chunk + crc + image[-12:]
    if image.startswith(b"\xff\xd8"):
        # Inserts a COM segment after SOI.
        return image[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text.encode() + image[2:]
    if image.startswith(b"BM"):
        # Changes the last pixel.
        tail = hashlib.blake2s(text.encode(), digest_size=3).digest()
        return image[:-3] + tail
    return None


def emoji(cache, vendor):
    """Yields the distinct 64-pixel PNGs of one vendor as (name, bytes)."""
    folder = cache / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    package = f"emoji-datasource-{vendor}"
    archive = folder / f"{package}-{EMOJI_VERSION}.tgz"
    if not archive.exists():
        print(f"fetching {package} from npm", file=sys.stderr)
        # In a folder of its own: an interrupted download leaves no archive.
        with tempfile.TemporaryDirectory(dir=folder) as new:
            command("npm", "pack", "--silent", f"{package}@{EMOJI_VERSION}", cwd=new)
            Path(new, archive.name).rename(archive)
    inside = f"package/img/{vendor}/64/"
    seen = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(inside) and member.name.endswith(".png"):
                image = tar.extractfile(member).read()
                if image not in seen:
                    seen.add(image)
                    yield Path(member.name).name, image


def unpacked_package(cache, package):
    """The folder with the content of a Debian package."""
    folder = cache / "debs"
    unpacked = folder / package
    if not unpacked.exists():
        print(f"fetching {package} from Debian", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as new:
            try:
                command("apt-get", "download", package, cwd=new)
            except Unavailable:
                # A new machine has no lists of packages.
                if os.geteuid() != 0:
                    raise
                command("apt-get", "update")
                command("apt-get", "download", package, cwd=new)
            archive = next(Path(new).glob("*.deb"))
            content = Path(new, "content")
            content.mkdir()
            command("dpkg-deb", "-x", str(archive), str(content))
            content.rename(unpacked)
    return unpacked


def wallpapers(cache, packages=None):
    """Yields the paths of the distinct images in Debian's wallpaper packages."""
    seen = set()
    for package in packages or WALLPAPERS:
        unpacked = unpacked_package(cache, package)
        for path in sorted(unpacked.rglob("*")):
            is_image = path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
            if is_image and path.is_file() and not path.is_symlink() and path.stat().st_size > 100_000:
                digest = hashlib.sha256(path.read_bytes()).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield path


def tiny(cache, into, count):
    originals = [(f"{vendor}-{name}", image) for vendor in EMOJI for name, image in emoji(cache, vendor)]
    made = 0
    copy = 0
    while made < count:
        for name, image in originals[: count - made]:
            data = with_comment(image, f"copy {copy:04}") if copy else image
            (into / f"{copy:02}-{name}").write_bytes(data)
            made += 1
        copy += 1
    return (
        f"the {len(originals)} 64-pixel PNGs of the npm packages emoji-datasource-{{{','.join(EMOJI)}}} "
        f"{EMOJI_VERSION}, and copies that differ by a tEXt chunk"
    )


def small(cache, into, count):
    made = 0
    for vendor in EMOJI:
        for name, image in emoji(cache, vendor):
            (into / f"{vendor}-{name}").write_bytes(image)
            made += 1
            if made == count:
                break
        if made == count:
            break  # The next package is not needed.
    return f"64-pixel PNGs of the npm packages emoji-datasource-* {EMOJI_VERSION}, unmodified"


def desktop(cache, into, count):
    return photos(cache, into, count, DESKTOP)


def photos(cache, into, count, packages=WALLPAPERS):
    originals = list(wallpapers(cache, packages))
    made = 0
    copy = 0
    while made < count:
        before = made
        for number, path in enumerate(originals):
            image = path.read_bytes()
            image = with_comment(image, f"copy {copy:04}") if copy else image
            if image is not None and made < count:
                (into / f"{copy}-{number:03}-{path.name}").write_bytes(image)
                made += 1
        if made == before:
            raise Unavailable("no photograph among the wallpapers")
        copy += 1
    return (
        f"the {len(originals)} photographs and wallpapers (JPEG, PNG, WebP) of the Debian packages "
        f"{', '.join(packages)}, and copies that differ by a comment"
    )


def smaller(cache, size):
    """Yields the distinct wallpapers, scaled down, as (path, image)."""
    library = cache / "python"
    if not library.exists():
        print("fetching Pillow from PyPI", file=sys.stderr)
        command(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(library), "pillow")
    sys.path.insert(0, str(library))
    from PIL import Image

    seen = set()
    for path in wallpapers(cache):
        with Image.open(path) as image:
            image = image.convert("RGB")
            image.thumbnail(size)
        digest = hashlib.sha256(image.tobytes()).digest()
        # Two sizes of one picture may be identical after scaling.
        if digest not in seen:
            seen.add(digest)
            yield path, image


def web(cache, into, _count):
    """Only the originals. `Corpus.lay_out` makes the copies, which take 10 GB."""
    for number, (path, image) in enumerate(smaller(cache, (1024, 768))):
        image.save(into / f"{number:03}-{path.stem}.jpg", quality=92)
    return "the same wallpapers as JPEGs of at most 1024 x 768 pixels, and copies that differ by a comment"


def million(cache, into, _count):
    """Only the originals, like `web`."""
    return tiny(cache, into, sum(1 for vendor in EMOJI for _ in emoji(cache, vendor)))


def bmp(cache, into, count):
    for number, (path, image) in enumerate(smaller(cache, (2560, 1600))):
        if number == count:
            break
        image.save(into / f"{number:03}-{path.stem}.bmp")
    return "of the same wallpapers the first ones as 24-bit BMP, at most 2560 x 1600 pixels"


def repository(_cache, into, _count):
    for path in sorted((REPOSITORY / "images").iterdir()):
        shutil.copy(path, into)
    return "the folder images/ of this repository"


CORPORA = {
    # name: (title, maker, images, images with --quick)
    "tiny": ("100,000 tiny images", tiny, 100_000, 10_000),
    "small": ("4,000 small images", small, 4_000, 1_000),
    "photos": ("300 photographs", photos, 300, 60),
    "bmp": ("60 BMPs", bmp, 60, 12),
    "line": ("4,000 small images over a line of 100 Mbit/s with a round trip of 40 ms", small, 4_000, 1_000),
    "disk": ("20,000 tiny images, stored on a disk", tiny, 20_000, 2_000),
    "deleted": ("20,000 tiny images, stored on a disk from which 60,000 files were just deleted", tiny, 20_000, 2_000),
    "web": ("100,000 pictures for the web", web, 100_000, 10_000),
    "million": ("a million tiny images", million, 1_000_000, 100_000),
    "desktop": ("60 photographs", desktop, 60, 12),
    "repository": ("the example images", repository, None, None),
}

# Measured only if they are named: a million images take 10 GB of memory, and the others are for trying the benchmark.
OPTIONAL = ("million", "desktop", "repository")

# Of these, `Corpus.lay_out` makes the copies: the cache has the originals alone.
COPIED = ("web", "million")

# Too large for the comparison of programs.
CLAIMS_ONLY = "web"

# Programs that are compared with a corpus, if not all.
ONLY = {
    "million": ("jtp", "rsync", "tar", "raw"),
    "line": ("jtp", "jtp-tls", "jtp-4", "rsync", "curl", "curl-parallel", "tar", "raw"),
    "disk": ("jtp", "rsync", "tar", "raw"),
    "deleted": ("jtp", "rsync", "tar", "raw"),
}

# Corpora that are fetched over a slow line: Mbit/s and the round trip in ms.
LINES = {"line": (100, 40)}

# Corpora that are stored on a disk, and how many other files are created there and deleted before each first sync.
DISKS = {"disk": 0, "deleted": 60_000}

# Corpora with the same images share their files in the cache.
SAME_IMAGES = {"line": "small", "deleted": "disk"}


class Corpus:
    """A folder of images in the cache. Servers serve a copy of it."""

    def __init__(self, name, cache, quick):
        title, maker, full, fewer = CORPORA[name]
        count = fewer if quick else full
        self.name = name
        self.title = title if count == full else f"{title}, reduced to {count:,}"
        self.line = LINES.get(name)
        self.deleted = DISKS.get(name)
        kept = cache / "corpora" / f"{SAME_IMAGES.get(name, name)}-{count or 'all'}"
        about = kept.with_suffix(".txt")
        if not about.exists():
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            about.write_text(maker(cache, kept, count))
        self.kept = kept
        self.about = about.read_text()
        sizes = [entry.stat().st_size for entry in os.scandir(kept)]
        # The number of copies of each original.
        self.copies = (count or len(sizes)) // len(sizes) if name in COPIED else 1
        self.count = len(sizes) * self.copies
        self.bytes = sum(sizes) * self.copies

    def lay_out(self, folder):
        """Creates the folder to serve."""
        shutil.rmtree(folder, ignore_errors=True)
        if self.copies == 1:
            subprocess.run(["cp", "-r", self.kept, folder], check=True)
            return
        folder.mkdir()
        originals = [(entry.name, Path(entry).read_bytes()) for entry in os.scandir(self.kept)]
        for copy in range(self.copies):
            for name, image in originals:
                (folder / f"{copy:03}-{name}").write_bytes(with_comment(image, f"copy {copy:04}"))

    def describe(self):
        mean = self.bytes / self.count
        size = f"{mean / 1e6:.1f} MB" if mean >= 1e6 else f"{mean / 1e3:.1f} kB"
        return f"{self.count:,} files, {self.bytes / 1e6:,.0f} MB, {size} each on average: {self.about}"


def change(folder, number):
    """Changes 1 % of the files, at least one, chosen by `number`; returns their names."""
    names = sorted(entry.name for entry in os.scandir(folder))
    step = min(100, len(names))
    chosen = names[number % step :: step]
    changed = []
    for name in chosen:
        path = folder / name
        image = with_comment(path.read_bytes(), f"change {number}")
        if image is None:
            continue
        new = path.with_name(f".{name}.new")
        new.write_bytes(image)
        # Some programs compare mtimes only by whole seconds.
        stat = path.stat()
        os.utime(new, (stat.st_atime, stat.st_mtime + 2))
        new.rename(path)
        changed.append(name)
    return changed
