"""The decoder: every kind of image file becomes uint8 [H, W, 3] RGB or an error with its name."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ssd_jax.data import decode
from ssd_jax.errors import DataError

RED_BLUE = np.zeros((16, 24, 3), np.uint8)
RED_BLUE[:, :12, 0] = RED_BLUE[:, 12:, 2] = 255


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(**options) -> bytes:
    return encoded(Image.fromarray(RED_BLUE), "JPEG", quality=95, subsampling=0, **options)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_png_of_any_mode_is_exact_rgb(mode):
    data = encoded(Image.fromarray(RED_BLUE).convert(mode), "PNG")
    np.testing.assert_array_equal(decode.decode_image(data, "x.png"), RED_BLUE)


def test_alpha_is_dropped_not_blended():
    clear = np.dstack([RED_BLUE, np.zeros((16, 24), np.uint8)])
    data = encoded(Image.fromarray(clear), "PNG")
    np.testing.assert_array_equal(decode.decode_image(data, "x.png"), RED_BLUE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_gray_gets_three_equal_channels(kind):
    image = decode.decode_image(encoded(Image.new("L", (24, 16), 77), kind), "gray")
    np.testing.assert_array_equal(image, np.full((16, 24, 3), 77, np.uint8))


def test_jpeg_is_rgb_and_cmyk_too():
    for mode in ("RGB", "CMYK"):
        data = encoded(Image.fromarray(RED_BLUE).convert(mode), "JPEG", quality=95, subsampling=0)
        image = decode.decode_image(data, mode)
        assert image.shape == (16, 24, 3)
        np.testing.assert_allclose(image[8, [4, 20]], [[255, 0, 0], [0, 0, 255]], atol=12)


def test_sixteen_bits_are_scaled_to_eight():
    deep = np.array([[0, 0x8000, 0xFFFF]], np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    np.testing.assert_allclose(decode.decode_image(data, "x")[0, :, 1], [0, 128, 255], atol=1)


def test_exif_rotation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90 degrees
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg(exif=exif))
    assert decode.read_image(path).shape == (16, 24, 3)
    assert decode.read_header(path).size == (16, 24)


def test_any_file_name_works(tmp_path):
    path = tmp_path / "bild é 图.jpg"
    path.write_bytes(jpeg())
    assert decode.read_image(str(path)).shape == (16, 24, 3)
    assert decode.read_header(path).size == (16, 24)


BAD = {
    "empty": b"",
    "text": b"<html>404</html>",
    "jpeg_half": jpeg()[: len(jpeg()) // 2],
    "jpeg_without_its_last_10_bytes": jpeg()[:-10],
    "png_half": encoded(Image.fromarray(RED_BLUE), "PNG")[:60],
    "png_without_end": encoded(Image.fromarray(RED_BLUE), "PNG")[:-12],
    "only_magic": b"\xff\xd8\xff\xd9",
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_refused_by_name(tmp_path, name):
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(BAD[name])
    for function in (decode.read_image, decode.read_header):
        with pytest.raises(DataError, match=f"{name}.jpg"):
            function(path)


def test_damage_inside_a_complete_png_is_refused():
    data = bytearray(encoded(Image.effect_noise((64, 64), 90), "PNG"))
    data[10:30] = bytes(20)
    with pytest.raises(DataError, match="x.png"):
        decode.decode_image(bytes(data), "x.png")


def test_thumbnail_does_not_hide_truncation(tmp_path):
    """A thumbnail inside the file has an end marker of its own."""
    thumbnail = jpeg()
    segment = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    whole = jpeg()[:2] + segment + jpeg()[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert decode.read_header(path).size == (16, 24)
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match="truncated"):
        decode.read_header(path)


@pytest.mark.parametrize("junk", [b"\0" * 100, b"\0" * 100_000])
def test_bytes_after_the_end_are_allowed(tmp_path, junk):
    path = tmp_path / "padded.jpg"
    path.write_bytes(jpeg() + junk)
    assert decode.read_header(path).size == (16, 24)
    np.testing.assert_array_equal(decode.read_image(path), decode.decode_image(jpeg(), "plain"))


def test_missing_file_is_a_data_error(tmp_path):
    for function in (decode.read_image, decode.read_header):
        with pytest.raises(DataError, match="gone.jpg.*No such file"):
            function(tmp_path / "gone.jpg")


def test_size_refuses_a_decompression_bomb(tmp_path):
    header = encoded(Image.new("1", (40_000, 1)), "PNG")
    data = bytearray(header)
    data[20:24] = (40_000).to_bytes(4, "big")  # 1.6 Gpx
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    path = tmp_path / "bomb.png"
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="bomb.png.*1600000000"):
        decode.read_header(path)


def test_real_photographs(real_data):
    path = real_data / "raccoon" / "images" / "raccoon-150.jpg"  # gray
    image = decode.read_image(path)
    assert image.shape[:2] == decode.read_header(path).size
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
