"""The inspection as one HTML page without any address outside itself."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from train.evaluate.flow import STILL
from train.inspection.findings import CodeFindings, Inspection

_ARROW = 800  # length of the drawn arrow for a movement by the whole picture
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2028; --dim: #5b6270; --paper: #fff; --line: #d9dce2; --bar: #1f63b2;
  --alarm: #a3231a; --ground: #f4f5f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --dim: #a2a9b6; --paper: #15181e; --line: #343a46;
  --bar: #6aa7f0; --alarm: #ff9d92; --ground: #1e222a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 100rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 0; }
p { margin: .25rem 0; } .dim { color: var(--dim); }
.wide { overflow-x: auto; margin: .5rem 0; } .wide:focus-visible { outline: 2px solid var(--bar); }
table { border-collapse: collapse; } th, td { text-align: left; padding: .3rem .8rem .3rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--dim); padding-bottom: .3rem; }
section { margin: 1.5rem 0; } .title { display: flex; align-items: center; gap: .7rem; }
.title svg { flex: none; } kbd { border: 1px solid var(--line); border-radius: .3rem; padding: 0 .4rem;
  background: var(--ground); font: inherit; font-size: .9rem; }
.alarms { border-left: .3rem solid var(--alarm); padding: .2rem .8rem; margin: 1rem 0; background: var(--ground); }
.alarms h2 { color: var(--alarm); } .alarms ul { margin: .3rem 0; padding-left: 1.2rem; }
img { display: block; height: 6.5rem; width: auto; max-width: none; }
svg path { stroke: var(--bar); fill: var(--bar); } svg circle { fill: var(--dim); }
@media print { .wide { overflow: visible; } img { max-width: 100%; height: auto; } }
"""


def html_page(
    found: Inspection,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    explanations: Sequence[str],
    strips: Sequence[bytes],
) -> str:
    """The page: alarms, a table of all codes, then a strip of pairs for each.

    Args:
        head, rows: the table's cells.
        explanations: how to read it, a line each.
        strips: WebP of each code's pairs before | after.
    """
    title = f"{escape(found.world)}: what each code does"
    sections = [_section(found, code, strip) for code, strip in zip(found.codes, strips, strict=True)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        + "".join(f'<p class="dim">{escape(line)}</p>\n' for line in explanations)
        + _alarms(found.alarms)
        + _table(head, rows)
        + "".join(sections)
        + "</main>\n</body>\n</html>\n"
    )


def _alarms(alarms: Sequence[str]) -> str:
    if not alarms:
        return "<p>No alarm: no collapse, no unused code, none without effect.</p>\n"
    items = "".join(f"<li>{escape(alarm)}</li>" for alarm in alarms)
    return f'<div class="alarms" role="note"><h2>Alarms</h2><ul>{items}</ul></div>\n'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = ""
    for first, *rest in rows:
        body += f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        body += "</tr>\n"
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Table of all codes"><table>\n'
        f"<caption>All codes</caption>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _section(found: Inspection, code: CodeFindings, strip: bytes) -> str:
    name, key = escape(code.name), escape("space" if code.key == " " else code.key)
    data = base64.b64encode(strip).decode()
    what = (
        f"Pairs of pictures: a prompt, and the same after {found.steps} steps of {code.name}; movement {code.movement}"
    )
    truth = ""
    if code.true_actions:
        shares = ", ".join(f"{action} in {share:.0%}" for action, share in code.true_actions.items())
        truth = f"<p>True actions of its {code.transitions} transitions: {escape(shares)}.</p>\n"
    elif code.true_actions is not None:
        truth = "<p>No transition of the video carries it.</p>\n"
    return (
        f'<section aria-labelledby="code{code.number}">\n<div class="title">{_arrow(code, found.size)}'
        f'<h2 id="code{code.number}">{code.number}: {name} <kbd>{key}</kbd></h2></div>\n'
        f"<p>Used in {code.usage:.1%} of the training video; movement a step: {escape(code.movement)}.</p>\n{truth}"
        f'<div class="wide" tabindex="0" role="region" aria-label="Pictures of code {code.number}">'
        f'<img alt="{escape(what)}" src="data:image/webp;base64,{data}"></div>\n</section>\n'
    )


def _arrow(code: CodeFindings, side: int) -> str:
    """The mean movement, drawn; a dot for a picture that stands."""
    label = f'<svg width="48" height="48" viewBox="-24 -24 48 48" role="img" aria-label="{escape(code.movement)}">'
    vector = np.array(code.flow) * _ARROW / side
    length = float(np.hypot(*vector))
    if length < STILL * _ARROW:
        return f'{label}<circle r="3"/></svg>'
    right, down = vector / length * min(max(length, 14), 44) / 2
    along = np.array([right, down]) / np.hypot(right, down)
    across = np.array([-along[1], along[0]])
    tip = np.array([right, down])
    corners = (tip, tip - 9 * along + 6 * across, tip - 9 * along - 6 * across)
    head = "L".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    neck = tip - 8 * along
    return (
        f'{label}<path stroke-width="3" d="M{-right:.1f},{-down:.1f}L{neck[0]:.1f},{neck[1]:.1f}"/>'
        f'<path stroke-width="0" d="M{head}Z"/></svg>'
    )
