"""HTML from nested calls: every text is escaped unless it is markup already, and every tag is closed."""

import re
from html import escape

Content = object  # text, number, `Markup`, None, or a list of them

_VOID = frozenset({"img", "meta", "br", "hr"})
_CODE = re.compile(r"`([^`]+)`")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: Content, **attributes: object) -> Markup:
    """One element. `class_` stands for class, `aria_label` for aria-label; an attribute of None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: Content) -> Markup:
    """Content one after the other, texts escaped."""
    parts = []
    for child in children:
        if isinstance(child, list | tuple):
            parts.append(join(*child))
        elif isinstance(child, Markup):
            parts.append(child)
        elif child is not None:
            parts.append(escape(str(child)))
    return Markup("".join(parts))


def prose(text: str) -> Markup:
    """Text in which `backticks` mark code, as in the documents."""
    return Markup(_CODE.sub(r"<code>\1</code>", escape(text)))


def table(caption: str, head: list[Content], rows: list[list[Content]], *, class_: str | None = None) -> Markup:
    """A table whose first column names its rows; a wide one scrolls within itself, by keyboard too."""
    body = [tag("tr", tag("th", first, scope="row"), [_cell(c) for c in rest]) for first, *rest in rows]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [tag("th", name, scope="col") for name in head])),
        tag("tbody", body),
        class_=class_,
    )
    return scrolling(whole, caption)


def scrolling(content: Markup, label: str) -> Markup:
    """A box that scrolls sideways where its content is wider than the page."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def _cell(content: Content) -> Markup:
    return content if isinstance(content, Markup) and content.startswith("<td") else tag("td", content)
