"""Pictures of an evaluation inside the page: of bounded width and size, as JPEG in a data URI."""

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from train.errors import UserError
from train.evaluate.report.markup import Markup, scrolling, tag

_WIDTH = 1400
_QUALITIES = (82, 70, 55, 40, 25)  # the first that makes the file small enough
_BYTES = 1_000_000


def picture(path: Path, caption: str, alt: str) -> Markup:
    """A figure of the picture in a file, or a line that says that the file is not there.

    Raises:
        UserError: the file is no picture.
    """
    if not path.is_file():
        return tag("p", f"{path.name} is not in the folder of this evaluation.", class_="missing")
    source, width, height = _embedded(path)
    image = tag("img", src=source, alt=alt, width=width, height=height, loading="lazy")
    return tag("figure", tag("figcaption", caption), scrolling(image, caption), class_="picture")


def _embedded(path: Path) -> tuple[str, int, int]:
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(path, "it is no picture that can be read", "Write it anew with 'genie evaluate'") from error
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)), Image.Resampling.LANCZOS)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 60 else 2)
        if buffer.tell() <= _BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), image.width, image.height
