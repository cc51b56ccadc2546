"""Archives as people hand them in, and what becomes of each: the table in docs/bucket.md, and its tests.

All are drawn. Each holds the images of IMAGES, of which a split of COUNTS takes six a class.
"""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import zips
from tests.faults.photos import noise
from tests.faults.zips import DEFLATED, DESCRIPTOR, STORED, Entry

CLASSES = ("cat", "dog")
COUNTS = (4, 1, 1)
PER_CLASS = 9
IMAGES = {
    (label, number): noise(100 * seed + number, 16) for seed, label in enumerate(CLASSES) for number in range(PER_CLASS)
}
KAGGLE = {f"train/{label}.{number}.jpg": data for (label, number), data in IMAGES.items()}
PETIMAGES = {f"PetImages/{label.capitalize()}/{number}.jpg": data for (label, number), data in IMAGES.items()}
NOTES = {"sampleSubmission.csv": b"id,label\n"}
HIDDEN = {
    ".Trash-1000/files/train/dog.50.jpg": IMAGES["cat", 3], "train/.picasaoriginals/cat.1.jpg": noise(99, 16),
    "train/.cat.2.jpg": noise(98, 16), "__MACOSX/train/._cat.0.jpg": b"\0\5\x16\7",
}  # fmt: skip
BZIP2, LZMA, XZ, DEFLATE64, ZSTD = 12, 14, 95, 9, 93

Make = Callable[[Path], Path]
"""Writes the archive into an empty folder, and returns its path."""


@dataclass(frozen=True)
class Kind:
    what: str
    """Of the archive, as the table names it."""
    outcome: str
    """READ, EXCLUDED, PASSED or REFUSED."""
    make: Make
    said: str = ""
    """Of an excluded image the reason, of a refused archive the line, without the path."""
    excluded: tuple[str, ...] = ()
    """The members that are excluded, or passed over."""
    after_unpacking: bool = False
    """Whether the plan cannot know."""


READ, EXCLUDED, PASSED, REFUSED = "read", "read, but for", "read, beside", "refused"
KINDS: dict[str, Kind] = {}


def entries(files: Mapping[str, bytes] = KAGGLE, **more: int | bytes | bool) -> list[Entry]:
    return [Entry(name, data, **more) for name, data in files.items()]  # type: ignore[arg-type]


def renamed(change: Callable[[str], str], files: Mapping[str, bytes] = KAGGLE) -> dict[str, bytes]:
    return {change(name): data for name, data in files.items()}


def bytes_in(name: bytes) -> str:
    """A name that tests.faults.zips writes as these bytes."""
    return name.decode("utf-8", "surrogateescape")


def named(data: bytes, name: str = "archive.zip") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def zipped(members: Iterable[Entry]) -> Make:
    return named(zips.zip_of(members))


def stored(files: Mapping[str, bytes] = KAGGLE) -> bytes:
    return zips.zip_of(entries(files))


def packed_by(method: int, data: bytes) -> bytes:
    if method == DEFLATED:
        return zips.deflated(data)
    if method == BZIP2:
        return bz2.compress(data)
    if method == XZ:
        return lzma.compress(data)
    if method == LZMA:
        # An .lzma file has the properties, and 8 bytes of the size, before the stream.
        alone = lzma.compress(data, lzma.FORMAT_ALONE)
        return b"\x09\x14\x05\0" + alone[:5] + alone[13:]
    return data


def packed(files: Mapping[str, bytes], method: int, flags: int = 0) -> list[Entry]:
    return [
        Entry(name, packed_by(method, data), method, flags, len(data), zlib.crc32(data)) for name, data in files.items()
    ]


def by_zipfile(files: Mapping[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


def nested(data: bytes, *levels: tuple[str, int]) -> bytes:
    """A zip in zips: each level names the zip so far, and packs it by a method into another."""
    for name, method in levels:
        data = zips.zip_of([*packed({name: data}, method), *entries(NOTES)])
    return data


def folder_of(files: Mapping[str, bytes], name: str = "photos") -> Make:
    def make(folder: Path) -> Path:
        for member, data in files.items():
            path = folder / name / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (folder / name).mkdir(exist_ok=True)
        return folder / name

    return make


def linked_folder(folder: Path) -> Path:
    folder_of(KAGGLE)(folder)
    (folder / "link").symlink_to("photos")
    return folder / "link"


def folder_with_links(folder: Path) -> Path:
    path = folder_of(KAGGLE)(folder)
    image = path / "train/cat.0.jpg"
    image.rename(folder / "elsewhere.jpg")
    image.symlink_to(folder / "elsewhere.jpg")
    return path


def folder_with_pipe(folder: Path) -> Path:
    path = folder_of(KAGGLE)(folder)
    (path / "train/cat.0.jpg").unlink()
    os.mkfifo(path / "train/cat.0.jpg")
    return path


def tar(compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as file:  # type: ignore[call-overload]
        for name, data in KAGGLE.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(name: str, what: str, make: Make) -> None:
    KINDS[name] = Kind(what, READ, make)


def refused(name: str, what: str, make: Make, said: str, after_unpacking: bool = False) -> None:
    KINDS[name] = Kind(what, REFUSED, make, said, after_unpacking=after_unpacking)


# --- layouts ---

read(
    "kaggle", "Kaggle's dogs-vs-cats.zip, with a compressed train.zip", named(nested(stored(), ("train.zip", DEFLATED)))
)
read("kaggle-stored", "the same, train.zip stored", named(nested(stored(), ("train.zip", STORED))))
read("train-zip", "train.zip alone, or the same images in any folder", zipped(entries()))
read("petimages", "Microsoft's PetImages", zipped(entries(PETIMAGES)))
read("class-folders", "a folder for each class", zipped(entries(renamed(lambda name: f"{name[6:9]}s/{name[6:]}"))))
read(
    "one-folder", "both classes in one folder called `dogs`", zipped(entries(renamed(lambda name: f"dogs/{name[6:]}")))
)
read(
    "three-deep",
    "a zip in a zip in a zip",
    named(nested(stored(), ("train.zip", DEFLATED), ("dogs-vs-cats.zip", DEFLATED))),
)
read("three-deep-stored", "the same, stored", named(nested(stored(), ("train.zip", STORED), ("Kaggle.zip", STORED))))
read(
    "three-deep-mixed",
    "the same, stored in a compressed one",
    named(nested(stored(), ("train.zip", STORED), ("a.zip", LZMA))),
)
read(
    "mac",
    "a zip by macOS, with `__MACOSX/._train.zip`",
    zipped([*packed({"train.zip": stored()}, DEFLATED), Entry("__MACOSX/._train.zip", b"\0\5\x16\7")]),
)
read(
    "folder", "a local folder of images", folder_of({f"PetImages/train/{name}": data for name, data in KAGGLE.items()})
)
read("folder-link", "a symbolic link to such a folder", linked_folder)
read("before", "a zip behind something else", named(b"MZ" + bytes(3000) + stored()))
read("behind", "a zip before something else", named(stored() + b"appended" * 1000))

# --- names ---

for key, what, prefix in (
    ("backslash", "backslashes, as by PowerShell 5.1 and .NET", "train\\"),
    ("backslash-petimages", "backslashes and a folder for each class", ""),
    ("parent", "`../train/…`", "../../train/"),
    ("absolute", "`/data/train/…`", "/data/train/"),
    ("drive", "`C:\\data\\…`", "C:\\data\\"),
    ("share", "`\\\\host\\share\\…`", "\\\\host\\share\\"),
    ("shift-jis", "Shift-JIS folders that end in 0x5C", bytes_in("データソ/表/".encode("shift-jis"))),
    ("gbk", "GBK folders with 0x5C", bytes_in("昞/誠/".encode("gbk"))),
    ("big5", "Big5 folders with 0x5C", bytes_in("功/許蓋/".encode("big5"))),
    ("latin-1", "a wrong UTF-8 flag in all names", bytes_in("Bücher é/".encode("latin-1"))),
):
    files = renamed(lambda name, prefix=prefix: prefix + name[6:])  # type: ignore[misc]
    if key == "backslash-petimages":
        files = renamed(lambda name: name.replace("/", "\\"), PETIMAGES)
    read(
        key,
        f"names with {what}" if key != "latin-1" else what,
        zipped(entries(files, flags=0x800 if key == "latin-1" else 0)),
    )

# --- methods ---

for method, what in ((DEFLATED, "Deflate"), (BZIP2, "bzip2"), (LZMA, "LZMA"), (XZ, "xz")):
    read(f"method-{method}", f"members compressed with {what}", zipped(packed(KAGGLE, method)))
    read(f"inner-{method}", f"train.zip compressed with {what}", named(nested(stored(), ("train.zip", method))))
read("bzip2-by-zipfile", "the same bzip2, by Python's zipfile", named(by_zipfile(KAGGLE, zipfile.ZIP_BZIP2)))
read("lzma-by-zipfile", "the same LZMA, by Python's zipfile", named(by_zipfile(KAGGLE, zipfile.ZIP_LZMA)))
for method, what in (
    (1, "Shrink"),
    (6, "Implode"),
    (DEFLATE64, "Deflate64"),
    (20, "Zstandard"),
    (ZSTD, "Zstandard"),
    (96, "JPEG recoding"),
    (97, "WavPack"),
    (98, "PPMd"),
    (99, "AES encryption"),
    (55, "an unknown method"),
):
    reason = f"is compressed with {what} (method {method}), which is not read; recreate the zip with Deflate"
    refused(
        f"method-{method}", f"members compressed with {what} ({method})", zipped(packed(KAGGLE, method)),
        f"none of its 18 images is usable: train/cat.0.jpg {reason}",
    )  # fmt: skip
    refused(
        f"inner-{method}", f"train.zip compressed with {what} ({method})",
        named(nested(stored(), ("train.zip", method))), f"train.zip {reason}",
    )  # fmt: skip
KINDS["one-deflate64"] = Kind(
    "one image compressed with Deflate64",
    EXCLUDED,
    zipped([*packed({"train/cat.1.jpg": KAGGLE["train/cat.1.jpg"]}, DEFLATE64), *entries()[:1], *entries()[2:]]),
    "is compressed with Deflate64 (method 9), which is not read; recreate the zip with Deflate",
    ("train/cat.1.jpg",),
)
refused(
    "encrypted",
    "encrypted members",
    zipped(entries(flags=1)),
    "train/cat.0.jpg is encrypted; recreate the zip without a password",
)
refused("encrypted-strong", "strongly encrypted members", zipped(entries(flags=0x41)), "train/cat.0.jpg is encrypted")

# --- odd directories ---

NOTE = Entry("note.txt", b"hello")
read(
    "odd-name",
    "one name that is not the UTF-8 it claims",
    zipped([replace(NOTE, name=bytes_in(b"read\xe9.txt")), *entries()]),
)
read("odd-extra", "one extra field that is cut off", zipped([replace(NOTE, extra=b"\x55\x78\xff\0ab"), *entries()]))
read("odd-extra-all", "cut-off extra fields everywhere", zipped(entries(extra=b"\x01\x00\x40\0abc")))
read("odd-zip64", "one member whose Zip64 field is missing", zipped([replace(NOTE, size=0xFFFFFFFF), *entries()]))
KINDS["odd-zip64-image"] = Kind(
    "one image whose Zip64 field is missing",
    EXCLUDED,
    zipped([replace(entries()[0], size=0xFFFFFFFF), *entries()[1:]]),
    "claims 4,294,967,295 bytes, more than 67,108,864",
    ("train/cat.0.jpg",),
)
refused(
    "all-empty",
    "images without bytes",
    zipped(entries(dict.fromkeys(KAGGLE, b""))),
    "none of its 18 images is usable: train/cat.0.jpg is an empty file",
)
KINDS["one-empty"] = Kind(
    "one image without bytes",
    EXCLUDED,
    zipped(entries({**KAGGLE, "train/cat.0.jpg": b""})),
    "is an empty file",
    ("train/cat.0.jpg",),
)
read("version-64", "members that need a newer version", zipped(entries(version=64)))
read("version-max", "one member that needs version 255", zipped([replace(NOTE, version=255), *entries()]))
read("zip64", "Zip64", zipped(entries(zip64=True)))
read("zip64-extensible", "Zip64 with extensible data", named(zips.zip_of(entries(zip64=True), extension=bytes(600))))
read(
    "zip64-behind",
    "the same behind something else",
    named(bytes(999) + zips.zip_of(entries(zip64=True), extension=b"PK\6\6" * 9)),
)
read("descriptors", "data descriptors", zipped(entries(flags=DESCRIPTOR)))
read("padded-end", "something between the directory and its end", named(zips.zip_of(entries(), before_end=bytes(40))))
read(
    "comment",
    "a comment that looks like a zip's end",
    named(stored()[:-2] + b"\x40\0" + (stored()[-22:] + bytes(64))[:64]),
)

# --- parts, and what is no zip ---

PARTS = zips.zip_of(entries(), disk=3)
refused(
    "split-last",
    "the last part of a split zip",
    named(PARTS, "m.zip"),
    "is the last of 4 parts of a split zip; join them: zip -s 0 m.zip --out whole.zip",
)
refused(
    "split-last-zip64",
    "the same with Zip64",
    named(zips.zip_of(entries(zip64=True), disk=2), "m.zip"),
    "is the last of 3 parts of a split zip",
)
refused(
    "split-first",
    "the first part of a split zip",
    named(b"PK\7\10" + stored()[:900], "m.z01"),
    "is the first part of a split zip; join its parts",
)
refused(
    "split-middle",
    "another part of a split zip",
    named(stored()[400:900], "m.z02"),
    "is one part of an archive that was split; join all parts first",
)
refused(
    "volume-1",
    "a volume by 7-Zip",
    named(stored()[:900], "train.zip.001"),
    "is one part of an archive that was split; join all parts first",
)
refused(
    "volume-last",
    "its last volume",
    named(stored()[900:], "train.zip.002"),
    "is one part of an archive that was split; join all parts first",
)
CONTAINER = "not a zip; unpack it, and give the folder with its images, or a zip of it"
refused("tar", "tar", named(tar("")), f"is a tar archive, {CONTAINER}")
refused("tar-gz", "tar.gz", named(tar("gz")), f"is a gzipped tar archive (tar.gz), {CONTAINER}")
refused("tar-bz2", "tar.bz2", named(tar("bz2")), f"is a bzip2 file (tar.bz2?), {CONTAINER}")
refused("tar-xz", "tar.xz", named(tar("xz")), f"is an xz file (tar.xz?), {CONTAINER}")
refused("tar-zst", "tar.zst", named(b"\x28\xb5\x2f\xfd" + bytes(99)), f"is a Zstandard file (tar.zst?), {CONTAINER}")
refused(
    "gzip",
    "a zip compressed with gzip",
    named(gzip.compress(stored())),
    "is a zip that was compressed with gzip; unpack it with gunzip",
)
refused("gzip-other", "gzip", named(gzip.compress(bytes(9999))), f"is a gzip file (tar.gz?), {CONTAINER}")
refused("7z", "7z", named(b"7z\xbc\xaf\x27\x1c\0\4" + bytes(99)), f"is a 7z archive, {CONTAINER}")
refused("rar", "RAR", named(b"Rar!\x1a\7\0" + bytes(99)), f"is a RAR archive, {CONTAINER}")
refused("rar5", "RAR 5", named(b"Rar!\x1a\7\1\0" + bytes(99)), f"is a RAR archive, {CONTAINER}")
refused(
    "html",
    "an HTML page",
    named(b"\n <!DOCTYPE html>\n<title>Log in</title>"),
    "is an HTML page, such as of a login or an error; log in, and download the archive again",
)
refused(
    "html-comment", "an HTML page behind a comment", named(b"\xef\xbb\xbf<!-- x -->\n<HTML lang=en>"), "is an HTML page"
)
refused("html-utf-16", "an HTML page in UTF-16", named("\ufeff<html>".encode("utf-16-le")), "is an HTML page")
refused(
    "xml",
    "a bucket's error message",
    named(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    "is an XML document, such as a storage's error message",
)
refused(
    "json",
    "an API's error message",
    named(b'{"code":403,"message":"Permission denied"}'),
    "is a JSON document, such as an error message",
)
refused("pdf", "PDF", named(b"%PDF-1.7\n"), "is a PDF document, not a zip")
refused(
    "jpeg",
    "a single image",
    named(KAGGLE["train/cat.0.jpg"]),
    "is a single JPEG image; give a zip of all images, or their folder",
)
refused(
    "lfs",
    "a Git LFS pointer",
    named(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
    "is a Git LFS pointer, not the file itself; run git lfs pull",
)
refused(
    "parquet",
    "Parquet, as by Hugging Face",
    named(b"PAR1" + bytes(99)),
    "is a Parquet file; give the images themselves",
)
refused(
    "zeros",
    "an unfinished download, all zeros",
    named(bytes(9999)),
    "begins with nothing but zeros, as an unfinished download does",
)
refused(
    "truncated",
    "a truncated zip",
    named(stored()[:2000]),
    "is a truncated zip, or has other data behind its end; download the archive again",
)
refused(
    "far-behind",
    "a zip before more than 65,535 bytes of something else",
    named(stored() + bytes(70_000)),
    "is a truncated zip, or has other data behind its end; download the archive again",
)
refused(
    "beginning",
    "a zip without its beginning",
    named(stored()[500:]),
    "its beginning is missing; download the archive again",
)
refused("empty", "an empty file", named(b""), "is empty; download the archive again")
refused(
    "inner-html",
    "a train.zip that is an HTML page",
    named(nested(b"<html>", ("train.zip", STORED))),
    "train.zip: is an HTML page",
)
refused(
    "inner-tar",
    "a compressed train.zip that is a tar archive",
    named(nested(tar("gz"), ("train.zip", DEFLATED))),
    "train.zip: is a gzipped tar archive (tar.gz)",
    True,
)

# --- several, or none ---

TWO = [*packed({"a/train.zip": stored()}, DEFLATED), *packed({"b/train.zip": stored(NOTES)}, DEFLATED)]
refused(
    "two-train-zips",
    "two train.zip",
    zipped(TWO),
    "2 inner zips may have the images: a/train.zip, b/train.zip; give one of them as the archive",
)
refused(
    "four-deep",
    "four zips within each other",
    named(nested(stored(), ("train.zip", STORED), ("b.zip", STORED), ("c.zip", STORED))),
    "c.zip: b.zip: has its images in train.zip, 4 zips deep; give train.zip itself",
)
refused(
    "four-deep-packed",
    "the same, compressed",
    named(nested(stored(), ("train.zip", DEFLATED), ("b.zip", DEFLATED), ("c.zip", DEFLATED))),
    "c.zip: b.zip: has its images in train.zip, 4 zips deep; give train.zip itself",
    True,
)
refused(
    "folder-empty",
    "a folder without images",
    folder_of({}),
    "a folder in which no image is named like cat.0.jpg or Cat/0.jpg; found nothing",
)
refused(
    "folder-of-kaggles",
    "a folder with all of Kaggle's files",
    folder_of({"test1.zip": stored(NOTES), "train.zip": stored(), **NOTES}),
    "photos/train.zip",
)
read("folder-backslash", "a folder of names with backslashes", folder_of(renamed(lambda name: name.replace("/", "\\"))))
read("folder-hidden", "a folder with hidden files and folders", folder_of({**KAGGLE, **HIDDEN}))
read("hidden", "a zip with hidden files and folders", zipped(entries({**KAGGLE, **HIDDEN})))
refused(
    "two-zips",
    "two zips of other names",
    zipped(packed({"cats.zip": stored(), "dogs.zip": stored()}, DEFLATED)),
    "2 inner zips may have the images: cats.zip, dogs.zip; give one of them as the archive",
)
refused("folder-of-zip", "a folder with train.zip", folder_of({"train.zip": stored(), **NOTES}), "photos/train.zip")
KINDS["stray"] = Kind(
    "images beside a train.zip of more than twice their bytes",
    PASSED,
    zipped(
        [
            *entries({"cat.1.jpg": noise(77, 16), "a\\dog.1.jpg": noise(78, 16)}),
            *packed({"train.zip": stored()}, DEFLATED),
        ]
    ),
    "passed over 2 images beside train.zip, which has the archive's images: cat.1.jpg, a\\dog.1.jpg",
    ("cat.1.jpg", "a\\dog.1.jpg"),
)
KINDS["stray-other"] = Kind(
    "a few images beside a larger zip of another name",
    PASSED,
    zipped([*entries({"cat.1.jpg": noise(77, 16)}), *packed({"images.zip": stored()}, DEFLATED)]),
    "passed over 1 image beside images.zip, which has the archive's images: cat.1.jpg",
    ("cat.1.jpg",),
)
KINDS["stray-large"] = Kind(
    "a large image beside a train.zip of less than twice its bytes",
    PASSED,
    zipped([*entries({"cat.1.jpg": stored()[: len(stored()) * 3 // 4]}), *packed({"train.zip": stored()}, DEFLATED)]),
    "passed over 1 image beside train.zip, which has the archive's images: cat.1.jpg",
    ("cat.1.jpg",),
)
refused(
    "stray-two",
    "an image beside two train.zip",
    zipped([*entries({"cat.1.jpg": noise(77, 16)}), *TWO]),
    "2 inner zips may have the images: a/train.zip, b/train.zip; give one of them as the archive",
)
MOST_CATS = {name: data for name, data in KAGGLE.items() if "cat" in name or name.endswith((".0.jpg", ".1.jpg"))}
refused(
    "too-few-beside",
    "too few images, and a zip beside them",
    zipped([*entries(MOST_CATS), *packed({"images.zip": stored()}, DEFLATED)]),
    "too few images: 6 dogs are wanted, the archive has 2; lower --train-per-class, --validation-per-class or"
    " --test-per-class; or give the zip that has the images: passed over beside them is images.zip",
)
read("beside-test1", "images beside a larger test1.zip", zipped([*entries(), Entry("test1.zip", bytes(99_999))]))

# --- labels ---

IN_FOLDERS = renamed(lambda name: f"{name[6:9]}s/{name[6:]}")
KINDS["contradiction"] = Kind(
    "an image in the folder of the other class",
    EXCLUDED,
    zipped(
        entries(
            {
                **{name: data for name, data in IN_FOLDERS.items() if name != "dogs/dog.1.jpg"},
                "cats/dog.1.jpg": KAGGLE["train/dog.1.jpg"],
            }
        )
    ),
    "lies in a folder of cats, but its name says dog",
    ("cats/dog.1.jpg",),
)
KINDS["contradiction-beside"] = Kind(
    "the same, beside another image of its name",
    EXCLUDED,
    zipped(entries({**IN_FOLDERS, "cats\\dog.1.jpg": noise(55, 16)})),
    "lies in a folder of cats, but its name says dog",
    ("cats\\dog.1.jpg",),
)
WITHOUT = {name: data for name, data in KAGGLE.items() if name != "train/dog.1.jpg"}
KINDS["contradiction-alone"] = Kind(
    "the only image in a folder of the other class",
    EXCLUDED,
    zipped(entries({**WITHOUT, "cats/dog.1.jpg": KAGGLE["train/dog.1.jpg"]})),
    "lies in a folder of cats, but its name says dog",
    ("cats/dog.1.jpg",),
)
KINDS["contradiction-deep"] = Kind(
    "an image in a folder within that of the other class",
    EXCLUDED,
    zipped(
        entries(
            {
                **renamed(lambda name: f"{name[6:9]}s/a/{name[6:]}", WITHOUT),
                "cats/a/dog.1.jpg": KAGGLE["train/dog.1.jpg"],
            }
        )
    ),
    "lies in a folder of cats, but its name says dog",
    ("cats/a/dog.1.jpg",),
)
KINDS["two-labels"] = Kind(
    "the same bytes as a cat and as a dog",
    EXCLUDED,
    zipped(entries({**KAGGLE, "train/dog.2.jpg": KAGGLE["train/cat.1.jpg"]})),
    "has the same bytes as train/dog.2.jpg, but another label",
    ("train/cat.1.jpg", "train/dog.2.jpg"),
)
KINDS["two-splits"] = Kind(
    "the same bytes in train and test",
    EXCLUDED,
    zipped(entries({**KAGGLE, "train/cat.5.jpg": KAGGLE["train/cat.1.jpg"]})),
    "has the same bytes as cat.1.jpg, which is in train",
    ("train/cat.5.jpg",),
)
KINDS["two-splits-spare"] = Kind(
    "the same, of an image and those that would take its place",
    EXCLUDED,
    zipped(
        entries(
            {
                **KAGGLE,
                **dict.fromkeys(["train/cat.5.jpg", "train/cat.6.jpg", "train/cat.7.jpg"], KAGGLE["train/cat.1.jpg"]),
            }
        )
    ),
    "has the same bytes as cat.1.jpg, which is in train",
    ("train/cat.5.jpg",),
)
read(
    "copies-unused",
    "the same bytes twice in train, or in an unused image",
    zipped(entries({**KAGGLE, **dict.fromkeys(["train/cat.2.jpg", "train/cat.8.jpg"], KAGGLE["train/cat.1.jpg"])})),
)
refused(
    "copies-only",
    "copies of one image",
    zipped(entries(dict.fromkeys(KAGGLE, noise(9, 16)))),
    "none of its 18 images is usable: train/cat.0.jpg has the same bytes as train/dog.0.jpg, but another label",
)
KINDS["folder-pipe"] = Kind(
    "a named pipe in a folder of images",
    EXCLUDED,
    folder_with_pipe,
    "is not a regular file",
    ("train/cat.0.jpg",),
)
KINDS["folder-links"] = Kind(
    "a symbolic link in a folder of images",
    EXCLUDED,
    folder_with_links,
    "is a symbolic link, which is not followed",
    ("train/cat.0.jpg",),
)


def table() -> str:
    """Return a row for each kind of archive: what it is, what becomes of it, and its test."""
    test = "tests/job/pipeline/test_archive_kinds.py::test_kind"
    lines = ["| archive | outcome | test |", "|---|---|---|"]
    for name, kind in KINDS.items():
        outcome = {
            READ: "read",
            EXCLUDED: f"read; an image is excluded: it {kind.said}",
            PASSED: "read; the images beside it are named and passed over",
            REFUSED: f"refused: {kind.said}" + (" (after unpacking)" if kind.after_unpacking else ""),
        }[kind.outcome]
        lines.append(f"| {kind.what} | {outcome} | `{test}[{name}]` |")
    return "\n".join(lines)
