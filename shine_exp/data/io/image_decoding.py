"""One image file as RGB pixels of 8 bits: exactly what it shows, or refused."""

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

# Others hold what 8 bits or one picture cannot: deeper colours, layers, programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 1 << 22
DEEP = "it has more than 8 bits a channel; reduce it yourself"


def decoded(data: bytes) -> np.ndarray:
    """Pixels (height, width, 3), uint8, turned as the file's EXIF orientation says.

    Grey, palette, CMYK and opaque images become RGB. Raises `ValueError` where the image has more
    than 8 bits a channel, transparent pixels, several frames or more than `MOST_PIXELS`, or is of
    another format. On damaged bytes, Pillow raises errors of every kind.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            file = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(
                f"it is none of {', '.join(FORMATS)}, or is damaged; convert it, or take it out"
            ) from None
        with file as image:
            if fault := _fault(image, data):
                raise ValueError(fault)
            upright = ImageOps.exif_transpose(image)
            if (
                upright.has_transparency_data
                and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255
            ):
                raise ValueError("it has transparent pixels; put it on a background yourself")
            return np.asarray(upright.convert("RGB"))


def _fault(image: "Image.Image", data: bytes) -> str | None:
    """Of what the header says, before anything is decoded."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        return f"it has {width} × {height} pixels, more than {MOST_PIXELS}; make it smaller"
    if image.mode == "F" or image.mode.startswith("I") or _deepest_channel(image, data) > 8:
        return DEEP
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format != "MPO":  # whose other frames are previews of the first
        return f"it has {n_frames} frames; take one of them"
    return None


def _deepest_channel(image: "Image.Image", data: bytes) -> int:
    """Bits, where the format can have more than 8: Pillow cuts those of colours without a word."""
    match image.format:
        case "PNG":
            return data[24]  # of the IHDR chunk, which is the first (PNG 1.2, section 11.2.2)
        case "TIFF":
            return int(np.max(image.tag_v2.get(258, 1)))  # type: ignore[attr-defined]  # BitsPerSample
        case "PPM":
            arguments = image.tile[0][3]  # type: ignore[attr-defined]
            largest = arguments[1] if isinstance(arguments, tuple) else 255
            return int(largest).bit_length()
        case _:
            return 8
