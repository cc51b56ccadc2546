"""What the model sees of an image that has more than one meaning: transparency, a color profile, several pictures."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from catsdogs.data.images import MORE_FORMATS, decode
from tests.job.data.test_images import file_of, quadrants

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

EXACT: dict[str, dict[str, Any]] = {
    "PNG": {}, "WEBP": {"lossless": True, "exact": True}, "TIFF": {}, "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}  # fmt: skip


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("opacity", [0, 128, 255])
def test_transparency_is_dropped(kind: str, opacity: int) -> None:
    """It is not blended with black or white."""
    picture = quadrants().convert("RGBA")
    picture.putalpha(opacity)
    pixels = decode(file_of(picture, kind, **EXACT[kind]), more_formats=True)
    assert np.abs(pixels.astype(int) - np.asarray(quadrants())).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_color_profile_changes_nothing(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, profiled = (file_of(quadrants(), kind, **more) for more in ({}, {"icc_profile": profile}))
    assert Image.open(io.BytesIO(profiled)).info["icc_profile"] == profile
    np.testing.assert_array_equal(decode(plain, more_formats=True), decode(profiled, more_formats=True))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_first_of_several_is_used(kind: str) -> None:
    others = [Image.new("RGB", quadrants().size, color) for color in ("black", "yellow")]
    data = file_of(quadrants(), kind, save_all=True, append_images=others)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    first = decode(file_of(quadrants(), kind.replace("MPO", "JPEG")), more_formats=True)
    assert np.abs(decode(data, more_formats=True).astype(int) - first).max() <= 8
    assert kind in (*MORE_FORMATS, "MPO")
