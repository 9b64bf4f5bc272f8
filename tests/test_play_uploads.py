"""Files as prompts: kinds by their first bytes, bombs and playlists refused, and the gallery that keeps them."""

import asyncio
import io
import struct
import zlib

import media
import numpy as np
import pytest
import worlds
from PIL import Image

from app.play import uploads
from app.play.gallery import Gallery
from app.play.uploads import UploadError, decode_upload, suffix_of


def image(kind: str, size=(40, 30)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)).save(out, kind)
    return out.getvalue()


def decoded(data: bytes, fps: float = 10.0) -> np.ndarray:
    return asyncio.run(decode_upload(data, size=32, fps=fps))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_images_become_one_frame(kind):
    assert decoded(image(kind)).shape == (1, 32, 32, 3)


def test_a_video_becomes_its_first_seconds(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    media.write_video(path, list(worlds.moving_squares(30)), fps=10)
    data = path.read_bytes()
    whole = decoded(data)
    assert whole.shape == (30, 32, 32, 3)
    monkeypatch.setattr(uploads, "UPLOAD_SECONDS", 1.0)
    assert np.array_equal(decoded(data), whole[:10])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "no file that can be a prompt"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no file that can be a prompt"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no file that can be a prompt"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no file that can be a prompt"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "cannot be a prompt"),
        (b"\0\0\0\x18ftypmp42" + b"\xff" * 1000, "cannot be a prompt"),
        (b"RIFF\0\0\0\0WAVE", "no file that can be a prompt"),
    ],
    ids=["empty", "text", "playlist", "concat", "svg", "broken png", "broken mp4", "sound"],
)
def test_other_files_are_refused_in_a_sentence(data, words):
    with pytest.raises(UploadError, match=words):
        decoded(data)


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 9_000)])
def test_a_bomb_is_refused_by_its_header(size):
    with pytest.raises(UploadError, match="pixels"):
        decoded(png_bomb(*size))


def test_a_playlist_in_disguise_opens_nothing_else(tmp_path):
    """The bytes decide the demuxer; a playlist behind a video's first bytes is a broken video."""
    secret = tmp_path / "secret.mp4"
    media.write_video(secret, list(worlds.moving_squares(5)), fps=10)
    with pytest.raises(UploadError):
        decoded(b"\0\0\0\x18ftypmp42#EXTM3U\n" + f"#EXTINF:1,\nfile://{secret}\n".encode() * 50)


def test_too_large_and_too_slow(monkeypatch):
    monkeypatch.setattr(uploads, "UPLOAD_BYTES", 1000)
    with pytest.raises(UploadError, match="limit"):
        suffix_of(b"\xff\xd8\xff" + b"0" * 2000)
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "DECODE_SECONDS", 0.001)
    with pytest.raises(UploadError, match="took longer"):
        decoded(image("PNG"))


def test_gallery_keeps_uploads_by_what_they_show():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    own = {"00": frames}
    gallery = Gallery(own, limit=3 * frames.nbytes)
    first, again = gallery.add(frames + 1, "me")
    assert (first.uploaded, again) == (True, False)
    assert gallery.add(frames + 1, "me") == (first, True)
    assert gallery.find("00").frames_THWC is frames
    ids = [gallery.add(frames + value, "me")[0].id for value in (2, 3)]
    assert gallery.find(first.id) is first  # asked for: the last to go now
    gallery.add(frames + 4, "me")
    assert [gallery.find(i) is not None for i in (first.id, *ids)] == [True, False, True]
    assert gallery.drop(first.id, "me")
    assert not gallery.drop(first.id, "me")
    assert not gallery.drop("00", "me")
    assert not gallery.drop(ids[0], "me")  # pushed out before
    assert Image.open(io.BytesIO(gallery.find("00").picture())).size == (8, 8)


def test_players_with_the_same_file_do_not_notice_each_other():
    gallery = Gallery({})
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    mine, again = gallery.add(frames, "me")
    assert gallery.add(frames, "you") == (mine, again) == (mine, False)
    assert not gallery.drop(mine.id, "a third")
    assert gallery.drop(mine.id, "me")
    assert gallery.find(mine.id) is mine  # still yours
    assert gallery.add(frames, "me") == (mine, False)
    gallery.leave("you")
    assert gallery.drop(mine.id, "me")
    assert gallery.find(mine.id) is None
    alone, _ = gallery.add(frames, "you")
    gallery.leave("you")
    assert gallery.find(alone.id) is alone  # a link finds it
    assert list(gallery.own()) == []
