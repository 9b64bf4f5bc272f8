"""What the codes are: how often each is used and which true action it went with."""

from collections.abc import Mapping

from train.evaluate.report.markup import Markup, join, table, tag
from train.evaluate.report.numbers import short
from train.evaluate.results import look_up


def action_sheet(tree: Mapping) -> Markup:
    """A row a code: its name, its share, and its share of each true action where these were given."""
    shares = look_up(tree, "details.actions.usage.share_by_code")
    if not isinstance(shares, list):
        return tag("p", "How often each code is used was not recorded.", class_="missing")
    names = look_up(tree, "world.codes")
    names = names if isinstance(names, list) and len(names) == len(shares) else [""] * len(shares)
    same = look_up(tree, "details.actions.consistency.by_code")
    same = same if isinstance(same, list) and len(same) == len(shares) else None
    rows: list[list[object]] = [
        [f"{code}" if not name or name == str(code) else f"{code}: {name}", _bar(share)]
        for code, (name, share) in enumerate(zip(names, shares, strict=True))
    ]
    head = ["code", "share of the steps"]
    if same is not None:
        head.append("consistency of its motion")
        rows = [[*row, short(value)] for row, value in zip(rows, same, strict=True)]
    usage = table("Codes on the evaluated video", head, rows, class_="usage")
    return join(usage, _confusion(tree, [row[0] for row in rows]))


def _confusion(tree: Mapping, codes: list[object]) -> Markup:
    counted = look_up(tree, "details.actions.nmi.confusion")
    if not isinstance(counted, Mapping):
        reason = look_up(tree, "details.actions.nmi.reason") or "this evaluation did not record them"
        return tag("p", f"No comparison with true actions: {reason}.", class_="missing")
    rows = []
    for name, counts in zip(codes, counted["counts"], strict=True):
        total = sum(counts)
        rows.append([name, *(_share(count, total) for count in counts), f"{total:,}"])
    head = ["code", *counted["actions"], "steps"]
    return table("True actions that went with each code: share of the code's steps", head, rows, class_="confusion")


def _share(count: int, total: int) -> Markup:
    share = count / max(total, 1)
    return tag("td", f"{100 * share:.0f}%", style=f"--share:{share:.3f}", title=f"{count} steps")


def _bar(share: float) -> Markup:
    bar = tag("span", class_="bar", style=f"--share:{share:.4f}", aria_hidden="true")
    return join(tag("span", f"{100 * share:.1f}%", class_="percent"), bar)
