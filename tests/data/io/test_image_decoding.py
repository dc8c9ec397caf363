import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import colours, encoded
from PIL import Image

from shine_exp.data.io import image_decoding as module
from shine_exp.data.io.image_decoding import decoded

PIXELS = colours(0)
TURNED = {  # by EXIF orientation: how the stored pixels are to be shown (Exif 2.3, section 4.6.4)
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    packed = io.BytesIO()
    image.save(packed, kind, **options)
    return packed.getvalue()


def png(colour_type: int, depth: int, rows: bytes, width: int = 2) -> bytes:
    """Written by hand: Pillow writes no deep colours."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    chunks = (
        chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" + rows)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(bits: int) -> bytes:
    """Two pixels of red, green and blue with so many bits each, little-endian."""
    content = bytes(2 * 3 * bits // 8)
    entries = [
        (256, 2),
        (257, 1),
        (258, None),
        (259, 1),
        (262, 2),
        (273, 8),
        (277, 3),
        (278, 1),
        (279, len(content)),
    ]
    start = 8 + len(content)
    after = start + 2 + 12 * len(entries) + 4
    directory = struct.pack("<H", len(entries))
    for tag, value in entries:
        directory += struct.pack("<HHII", tag, 3, *((3, after) if value is None else (1, value)))
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + content
        + directory
        + bytes(4)
        + struct.pack("<3H", bits, bits, bits)
    )


def refusal(data: bytes) -> str:
    with pytest.raises(ValueError, match=r"^it ") as caught:
        decoded(data)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        png(2, 16, bytes(12)),
        png(6, 16, bytes(16)),
        png(4, 16, bytes(8)),
        png(0, 16, bytes(4)),
        tiff(16),
        b"P6 2 1 65535\n" + bytes(12),
        b"P6 2 1 256\n" + bytes(12),
        b"P3 2 1 65535\n1 2 3 4 5 6\n",
        b"P5 2 1 65535\n" + bytes(4),
        b"Pf 2 1 -1.0\n" + bytes(8),
        encoded(np.ones((3, 5), np.uint16)),
        encoded(np.ones((3, 5), np.int32), "tiff"),
        encoded(np.ones((3, 5), np.float32), "tiff"),
    ],
    ids=[
        *(
            "png",
            "png-alpha",
            "png-grey-alpha",
            "png-grey",
            "tiff",
            "ppm",
            "ppm-9-bits",
            "ppm-text",
            "pgm",
            "pfm",
        ),
        *("png-int16", "tiff-int32", "tiff-float32"),
    ],
)
def test_more_than_eight_bits_are_refused(data: bytes) -> None:
    assert refusal(data) == "it has more than 8 bits a channel; reduce it yourself"


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (png(2, 8, bytes(range(6))), [[0, 1, 2], [3, 4, 5]]),
        (png(0, 1, b"\x40"), [[0] * 3, [255] * 3]),
        (png(0, 4, b"\x3f"), [[51] * 3, [255] * 3]),
        (tiff(8), [[0] * 3] * 2),
        (b"P6 2 1 255\n" + bytes(range(6)), [[0, 1, 2], [3, 4, 5]]),
        (b"P3 2 1 255\n0 1 2 3 4 5\n", [[0, 1, 2], [3, 4, 5]]),
        (b"P6 2 1 15\n" + bytes([15, 5, 0, 0, 1, 2]), [[255, 85, 0], [0, 17, 34]]),
        (b"P4 2 1\n\x80", [[0] * 3, [255] * 3]),
    ],
    ids=["png", "png-1-bit", "png-4-bits", "tiff", "ppm", "ppm-text", "ppm-4-bits", "pbm"],
)
def test_up_to_eight_bits_are_read(data: bytes, pixels: list[list[int]]) -> None:
    np.testing.assert_array_equal(decoded(data), [pixels])


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_image_is_turned_as_its_exif_orientation_says(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = decoded(saved(Image.fromarray(PIXELS), kind, **options))
    found = decoded(saved(Image.fromarray(PIXELS), kind, exif=exif, **options))
    np.testing.assert_array_equal(found, TURNED[orientation](stored))


@given(st.integers(0, 255))
@settings(max_examples=20)
def test_alpha_is_taken_where_it_is_opaque_alone(alpha: int) -> None:
    layer = np.full((3, 5, 1), 255, np.uint8)
    layer[1, 2] = alpha
    data = encoded(np.concatenate([PIXELS, layer], axis=2))
    if alpha == 255:
        np.testing.assert_array_equal(decoded(data), PIXELS)
    else:
        assert refusal(data) == "it has transparent pixels; put it on a background yourself"


def transparent(mode: str, kind: str, used: bool) -> bytes:
    """An image of one colour, of which this or another one is declared to be transparent."""
    image = Image.new(mode, (5, 3), {"P": 0, "L": 7, "1": 0, "RGB": (1, 2, 3)}[mode])
    if mode == "P":
        image.putpalette([1, 2, 3, 4, 5, 6])
    keys = {"P": (0, 1), "L": (7, 8), "1": (0, 255), "RGB": ((1, 2, 3), (9, 2, 3))}
    return saved(image, kind, transparency=keys[mode][0 if used else 1])


@pytest.mark.parametrize(
    ("mode", "kind"), [("P", "PNG"), ("P", "GIF"), ("L", "PNG"), ("1", "PNG"), ("RGB", "PNG")]
)
def test_transparent_colour_is_refused_where_a_pixel_has_it(mode: str, kind: str) -> None:
    assert "transparent pixels" in refusal(transparent(mode, kind, used=True))
    shown = {"P": (1, 2, 3), "L": (7, 7, 7), "1": (0, 0, 0), "RGB": (1, 2, 3)}[mode]
    np.testing.assert_array_equal(
        decoded(transparent(mode, kind, used=False)), np.tile(shown, (3, 5, 1))
    )


@pytest.mark.parametrize(
    ("mode", "kind"), [("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("PA", "TIFF")]
)
def test_transparent_layer_is_refused(mode: str, kind: str) -> None:
    assert "transparent pixels" in refusal(
        saved(Image.new("RGBA", (5, 3), (9, 9, 9, 3)).convert(mode), kind)
    )


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (5, 3), (60 * k, 0, 0)) for k in range(3)]
    assert refusal(saved(frames[0], kind, save_all=True, append_images=frames[1:])) == (
        "it has 3 frames; take one of them"
    )
    assert decoded(saved(frames[1], kind)).shape == (3, 5, 3)


def test_previews_of_a_camera_are_no_frames() -> None:
    picture, preview = Image.new("RGB", (5, 3), (60, 60, 60)), Image.new("RGB", (2, 2))
    assert decoded(saved(picture, "MPO", save_all=True, append_images=[preview])).min() >= 58


def test_cmyk_becomes_rgb() -> None:
    for kind in ("JPEG", "TIFF"):
        np.testing.assert_array_equal(
            decoded(saved(Image.new("CMYK", (5, 3)), kind)), np.full((3, 5, 3), 255)
        )


def test_large_image_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    header = png(2, 8, b"", width=9000).replace(
        struct.pack(">II", 9000, 1), struct.pack(">II", 9000, 9000)
    )
    data = header[:29] + struct.pack(">I", zlib.crc32(header[12:29])) + header[33:]
    assert refusal(data) == "it has 9000 × 9000 pixels, more than 4194304; make it smaller"
    monkeypatch.setattr(module, "MOST_PIXELS", 14)
    assert "it has 5 × 3 pixels, more than 14" in refusal(encoded(PIXELS))
    monkeypatch.setattr(module, "MOST_PIXELS", 15)
    np.testing.assert_array_equal(decoded(encoded(PIXELS)), PIXELS)


@pytest.mark.parametrize("kind", ["EPS", "JPEG2000", "TGA", "ICO", "PCX"])
def test_other_formats_are_refused(kind: str) -> None:
    assert refusal(saved(Image.fromarray(PIXELS), kind)).startswith(
        "it is none of PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM"
    )
