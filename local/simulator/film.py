"""Films for the simulated servers: real, playable MP4s that show their prompt on moving
pictures.
"""

import asyncio
import colorsys
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
from PIL import Image, ImageChops, ImageDraw, ImageFont

FRAMES_PER_SECOND = 16
MOST_LETTERS_SHOWN = 400
SPRITES = (4, 2)

VIDEO = "video.mp4"
THUMBNAIL = "thumbnail.webp"
SPRITESHEET = "spritesheet.jpeg"


@dataclass(frozen=True)
class Scene:
    """What is to be filmed: `size` is width and height in pixels, even numbers; `reference` an
    encoded image. `index_first`: players can begin before they have the whole file.
    """

    prompt: str
    size: tuple[int, int]
    seconds: int
    reference: bytes | None = None
    index_first: bool = True


class Studio:
    """Films scenes one at a time outside the event loop, and keeps each film on disk under its
    name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()

    async def film(self, name: str, scene: Scene) -> Path:
        """The folder that holds the film of that name, its thumbnail and its sprite sheet; filmed
        at the first call.
        """
        film = self._directory / name
        async with self._one_at_a_time:
            await asyncio.to_thread(_film_once, scene, film)
        return film

    def discard(self, name: str) -> None:
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def discard_all(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def _film_once(scene: Scene, film: Path) -> None:
    if film.exists():
        return
    draft = film.with_name(f"{film.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    shoot(scene, draft)
    draft.rename(film)  # all or nothing: a killed process leaves a draft, never half a film


def shoot(scene: Scene, folder: Path) -> None:
    """Write the scene's MP4 (H.264), thumbnail (WebP) and sprite sheet (JPEG) into an
    existing folder.
    """
    columns, rows = SPRITES
    total = scene.seconds * FRAMES_PER_SECOND
    sprite_frames = {total * number // (columns * rows): number for number in range(columns * rows)}
    width, height = scene.size
    sprite = (width // columns, height // columns)
    sheet = Image.new("RGB", (sprite[0] * columns, sprite[1] * rows))
    flags = {"movflags": "faststart"} if scene.index_first else {}
    with av.open(str(folder / VIDEO), "w", format="mp4", options=flags) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height = scene.size
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "28"}
        for number, picture in enumerate(pictures(scene)):
            if number in sprite_frames:
                row, column = divmod(sprite_frames[number], columns)
                sheet.paste(picture.resize(sprite), (column * sprite[0], row * sprite[1]))
            if number == total // 2:
                picture.save(folder / THUMBNAIL, quality=80)
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # PyAV's stub gives it no types
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sheet.save(folder / SPRITESHEET, quality=80)


def pictures(scene: Scene) -> Iterator[Image.Image]:
    """The scene's frames: its background drifts round once, the caption stands still, a bar shows
    the time gone by.

    The first frame has the background in place, so that a reference image is seen there as it was
    sent.
    """
    width, height = scene.size
    total = scene.seconds * FRAMES_PER_SECOND
    background = _background(scene)
    caption, place = _caption(scene)
    bar = max(4, height // 100)
    for number in range(total):
        picture = ImageChops.offset(background, width * number // total, 0)
        picture.paste(caption, place)
        picture.paste((255, 255, 255), (0, height - bar, width * (number + 1) // total, height))
        yield picture


def _background(scene: Scene) -> Image.Image:
    if scene.reference is not None:
        with Image.open(BytesIO(scene.reference)) as image:
            return image.convert("RGB").resize(scene.size)
    return _landscape(scene.prompt, scene.size)


def _landscape(prompt: str, size: tuple[int, int]) -> Image.Image:
    """Hills and a sun under a sky, in colours that follow from the prompt."""
    width, height = size
    digest = hashlib.sha256(prompt.encode()).digest()
    hue = digest[0] / 256
    sky = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", [sky.point(_ramp(dark, light)) for dark, light in _sky(hue)])
    draw = ImageDraw.Draw(image)
    radius = min(size) // 7
    sun = (width // 4 + digest[1] * width // 512, height // 4)
    draw.ellipse((sun[0] - radius, sun[1] - radius, sun[0] + radius, sun[1] + radius), fill=_colour(hue + 0.1, 0.5, 1))
    for layer in range(3):
        foot = height // 2 + layer * height // 7
        peaks = [(step * width // 6, foot - digest[2 + layer * 6 + step % 6] * height // 1600) for step in range(7)]
        colour = _colour(hue + 0.4 + layer * 0.03, 0.5, 0.6 - layer * 0.15)
        for (left, left_top), (right, right_top) in pairwise(peaks):
            draw.polygon([(left, left_top), (right, right_top), (right, height), (left, height)], fill=colour)
    return image


def _sky(hue: float) -> list[tuple[int, int]]:
    return list(zip(_colour(hue, 0.7, 0.5), _colour(hue + 0.15, 0.4, 1), strict=True))


def _ramp(first: int, last: int) -> list[int]:
    return [first + (last - first) * level // 255 for level in range(256)]


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _caption(scene: Scene) -> tuple[Image.Image, tuple[int, int]]:
    """The prompt on a dark panel, and where its top left corner goes. Drawn once: text is the slow
    part of a frame.
    """
    width, height = scene.size
    margin = width // 20
    font = ImageFont.load_default(max(12, min(scene.size) // 18))
    text = "\n".join(_wrap(scene.prompt, font, width - 4 * margin))
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    panel = Image.new("RGB", (width - 2 * margin, min(height - 2 * margin, round(box[3]) + 2 * margin)), (16, 18, 24))
    ImageDraw.Draw(panel).multiline_text((margin, margin), text, font=font, fill=(255, 255, 255))
    return panel, (margin, height - margin - panel.height)


def _wrap(prompt: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    shown = " ".join(prompt.split())
    if len(shown) > MOST_LETTERS_SHOWN:
        shown = f"{shown[:MOST_LETTERS_SHOWN]} …"
    lines = [""]
    for word in shown.split(" "):
        joined = f"{lines[-1]} {word}".lstrip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in word:  # a word wider than the picture is broken where it must be
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def signed(film: bytes, name: str) -> bytes:
    """The film with a closing `free` box that holds a name, so that two copies of one film are told
    apart.
    """
    text = name.encode()
    return film + (8 + len(text)).to_bytes(4, "big") + b"free" + text


def pad_with_free_box(film: bytes, length: int) -> tuple[bytes, int]:
    """The film with the header of a closing `free` box, and how many zero bytes must follow to
    reach `length` bytes.

    A film that is too long for the box is returned as it is (ISO/IEC 14496-12: a box header takes
    eight bytes).
    """
    room = length - len(film)
    if room < 8:
        return film, 0
    return film + room.to_bytes(4, "big") + b"free", room - 8
