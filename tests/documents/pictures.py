"""The kinds of images, and what becomes of each: the table of docs/bucket.md, which test_pictures.py compares."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tests.attacks import jpegs
from tests.attacks.jpegs import of_kind, photo
from tests.job.data.test_images import file_of, quadrants
from tests.job.data.test_more_formats import UNSUPPORTED, av1, tif

IMAGES = "tests/job/data/test_images.py"
MORE = "tests/job/data/test_more_formats.py"
ATTACKS = "tests/attacks/test_images.py"
PREDICTED = "tests/attacks/test_predicted_images.py"


class Row(NamedTuple):
    image: str
    split: bool
    """Whether a split uses it."""
    predict: bool
    """Whether `catsdogs predict` judges it."""
    most: str
    """The largest that is decoded."""
    files: tuple[Callable[[], bytes], ...]
    """Such images. None can be made here with arithmetic coding."""
    tests: tuple[str, ...]
    """Further ones."""


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    return file_of(quadrants().convert(mode), "JPEG", **options)


def several(kind: str) -> bytes:
    return file_of(quadrants(), kind, save_all=True, append_images=[quadrants().rotate(180)])


ROWS = [
    Row(
        "JPEG, baseline (SOF0, SOF1), RGB, gray or CMYK; JFIF, MPO", True, True, "64 million pixels",
        (jpeg, partial(jpeg, "L"), partial(jpeg, "CMYK"), lambda: of_kind(1, jpeg()), partial(several, "MPO")),
        (
            f"{ATTACKS}::test_every_kind_of_frame_ends_alike_in_every_size",
            f"{ATTACKS}::test_large_images_of_every_kind",
        ),
    ),
    Row(
        "JPEG, progressive, or in several scans", True, True,
        "64 million pixels with the usual subsampling (4:2:0), 40 million without",
        (partial(jpeg, progressive=True), partial(jpeg, progressive=True, subsampling=0)),
        (f"{ATTACKS}::test_large_images_of_every_kind",),
    ),
    Row(
        "JPEG, arithmetic coding (SOF9, SOF10)", True, True, "as above", (),
        (f"{ATTACKS}::test_every_kind_of_frame_ends_alike_in_every_size",),
    ),
    Row(
        "JPEG, lossless or hierarchical, or not of 8 bits a sample", False, False, "",
        (
            lambda: jpegs.lossless(np.asarray(photo(40, 30))),
            *(partial(of_kind, kind, jpeg()) for kind in (3, 5, 6, 7, 11, 13, 14, 15)),
            partial(of_kind, 1, jpeg(), 12),
        ),
        (f"{ATTACKS}::test_a_lossless_jpeg_crashes_nothing",),
    ),
    Row(
        "PNG, GIF, BMP", True, True, "64 million pixels",
        tuple(partial(file_of, quadrants(), kind) for kind in ("PNG", "GIF", "BMP")),
        (f"{IMAGES}::test_every_kind_of_picture_shows_what_was_drawn", f"{ATTACKS}::test_large_images_of_every_kind"),
    ),
    Row(
        "WebP", True, True, "33 million pixels, an animation 13 million",
        (partial(file_of, quadrants(), "WEBP"), partial(several, "WEBP")),
        (f"{ATTACKS}::test_large_images_of_every_kind",),
    ),
    Row(
        "TIFF, not compressed, or with LZW, Deflate or PackBits", False, True,
        "64 million pixels that fit into the memory below",
        (
            *(partial(tif, compression=kind) for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")),
            partial(several, "TIFF"),
        ),
        (
            f"{MORE}::test_every_kind_of_picture_shows_what_was_drawn",
            f"{PREDICTED}::test_large_images_are_decoded_within_the_memory",
        ),
    ),
    Row(
        "AVIF", False, True, "13 million pixels, 8 million with transparency", (av1,),
        (
            f"{MORE}::test_every_kind_of_picture_shows_what_was_drawn",
            f"{PREDICTED}::test_large_images_are_decoded_within_the_memory",
        ),
    ),
    Row(
        "TIFF with JPEG or fax compression, of floats or of 32 bits; HEIC, JPEG XL, JPEG 2000, Photoshop, raw photos,"
        " AVIF of several pictures; anything else",
        False, False, "", tuple(make for make, _ in UNSUPPORTED.values()),
        (f"{MORE}::test_what_is_not_decoded_says_what_it_is_and_what_to_do",),
    ),
]  # fmt: skip


def table() -> str:
    """Return a line for each of ROWS."""
    lines = ["| image | in a split | `predict` | up to | tests |", "|---|---|---|---|---|"]
    for row in ROWS:
        tests = ", ".join(f"`{test}`" for test in row.tests)
        used, judged = ("yes" if outcome else "no" for outcome in (row.split, row.predict))
        lines.append(f"| {row.image} | {used} | {judged} | {row.most} | {tests} |")
    return "\n".join(lines)
