"""The frame of a page: one HTML file that asks for nothing outside itself."""

import os
from pathlib import Path

from train.evaluate.report.markup import Content, Markup, join, tag
from train.evaluate.report.style import CSS

# Whatever a name or a picture might smuggle in, the page can neither load nor run anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Section:
    """A part of the page under a heading, to which the page's contents lead."""

    def __init__(self, name: str, title: str, *content: Content) -> None:
        self.name, self.title = name, title
        self.content = join(*content)

    def markup(self) -> Markup:
        """The section as HTML."""
        heading = tag("h2", self.title, id=f"{self.name}-title")
        return tag("section", heading, self.content, id=self.name, aria_labelledby=f"{self.name}-title")


def page(title: str, lead: Content, sections: list[Section]) -> str:
    """The whole document as text."""
    contents = tag("ul", [tag("li", tag("a", section.title, href=f"#{section.name}")) for section in sections])
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Markup(CSS)),
    )
    body = tag(
        "body",
        tag("header", tag("h1", title), lead, tag("nav", contents, aria_label="Contents")),
        tag("main", [section.markup() for section in sections]),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def definitions(pairs: dict[str, Content]) -> Markup:
    """A list of names and what they are; what is None is left out."""
    known = {name: content for name, content in pairs.items() if content is not None}
    return tag("dl", [join(tag("dt", name), tag("dd", content)) for name, content in known.items()])


def write_page(path: Path, text: str) -> None:
    """Write beside the place and rename into it, so that a reader sees a whole page or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
