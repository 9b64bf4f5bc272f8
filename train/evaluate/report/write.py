"""report.html: an evaluation to read and to show, made from metrics.json and the pictures beside it."""

from collections.abc import Mapping
from pathlib import Path

from train.evaluate.files import METRICS, read_metrics
from train.evaluate.report.actions import action_sheet
from train.evaluate.report.curves import control_curves, drift_curves, rollout_curves
from train.evaluate.report.details import details_table
from train.evaluate.report.headline import headline
from train.evaluate.report.images import picture
from train.evaluate.report.markup import Content, Markup, join, prose, table, tag
from train.evaluate.report.numbers import exact, short
from train.evaluate.report.page import Section, definitions, page, write_page
from train.evaluate.results import left_out, look_up
from train.evaluate.table import sections as verdicts

REPORT = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a folder that `evaluate` wrote, anew if it is there; gives its path.

    Raises:
        UserError: metrics.json or a picture cannot be read.
    """
    folder = Path(folder)
    text = report(read_metrics(folder / METRICS), folder)
    write_page(folder / REPORT, text)
    return folder / REPORT


def report(tree: Mapping, folder: Path) -> str:
    """The page of the evaluation `tree` (docs/metrics.md), with the pictures that lie in the folder."""
    tables = {title.partition(":")[0]: _verdicts(title, rows) for title, rows in verdicts(tree)}
    films = picture(
        folder / "rollouts.png",
        "Rollouts: truth, rollout and twice their difference at growing steps",
        "Film strips of several clips. In each, the upper row is the true video, the middle row the rollout from the "
        "same prompt with the codes of the true future, the lower row twice their absolute difference.",
    )
    grid = picture(
        folder / "reconstruction.png",
        "Single frames: truth, decode(encode(truth)) and twice their difference",
        "Three rows of frames: true frames, the same through encoder and decoder, twice their absolute difference.",
    )
    parts = [
        Section("summary", "Main figures", headline(tree)),
        Section("rollout", "How long a rollout stays close", _charts(rollout_curves(tree)), tables["ROLLOUT"]),
        Section("films", "Film strips", None if left_out(tree, "rollout.psnr") else films, grid, tables["PICTURE"]),
        Section("actions", "Actions", action_sheet(tree), tables["ACTIONS"]),
        Section("control", "Control", _charts(control_curves(tree)), tables["CONTROL"]),
        Section("drift", "Drift of long rollouts", _charts(drift_curves(tree)), tables["DRIFT"]),
        Section("play", "Play and budget", tables["PLAY AND BUDGET"], _budget(tree)),
        Section("details", "Every measure", tag("p", prose(_READING)), details_table(tree)),
        Section("made", "How this was made", _made(tree)),
    ]
    name = look_up(tree, "world.name")
    title = f"{name or 'World'} on {look_up(tree, 'data.subject')}"
    return page(title, _about(tree), parts)


_READING = (
    "Intervals are 95% bootstrap intervals of the mean over clips unless `how` says otherwise. Autoregressive: each "
    "frame follows from frames that the world made itself. Nothing here is teacher-forced; what says single frames "
    "involves no rollout. Values by step or part unfold on demand."
)


def _about(tree: Mapping) -> Markup:
    data, world = tree["data"], tree.get("world") or {}
    size, w = world.get("size"), world.get("w")
    total = look_up(tree, "budget.parameters.total")
    clips = f"{data.get('clips')} of {data.get('prompt')} + {data.get('steps')} frames"
    sizes = [
        None if size is None else f"{size} x {size} pixels",
        f"{data.get('fps')} frames a second",
        None if total is None else f"{short(total)} parameters",
        None if w is None else f"w of {w[0]} x {w[1]}",
        None if "codes" not in world else f"{len(world['codes'])} codes",
    ]
    return definitions(
        {
            "World": ", ".join(part for part in sizes if part),
            "Trained on": ", ".join(world.get("trained_on", ())) or None,
            "Evaluated on": f"{data.get('subject')}: {data.get('frames')} frames in {data.get('shots')} shots",
            "Held out": data.get("heldout"),
            "Clips": clips + (", some overlap" if data.get("overlapping_clips") else ""),
        }
    )


def _verdicts(title: str, rows: list) -> Markup:
    cells: list[list[Content]] = [list(row) for row in rows]
    _, _, rest = title.partition(": ")
    caption = rest[:1].upper() + rest[1:] if rest else "Speed and size"
    return table(caption, ["measure", "value", "read against", "verdict", "what it is"], cells, class_="verdicts")


def _charts(charts: list[Markup]) -> Markup:
    """Charts beside each other, then what was not measured."""
    drawn = [chart for chart in charts if chart.startswith("<figure")]
    return join(tag("div", drawn, class_="charts"), [chart for chart in charts if chart not in drawn])


def _budget(tree: Mapping) -> Markup:
    parameters, cost = look_up(tree, "budget.parameters") or {}, look_up(tree, "budget.gflop_per_frame") or {}
    rows: list[list[Content]] = [
        [part, *(exact(of[part]) if of.get(part) is not None else "" for of in (parameters, cost))]
        for part in [*(name for name in parameters if name != "total"), "total"]
    ]
    limits = (look_up(tree, f"details.budget.{key}.budget") for key in ("parameters", "gflop_per_frame"))
    rows.append(["at most", *("" if most is None else short(most) for most in limits)])
    return table("What play loads, and the arithmetic of a generated frame", ["part", "parameters", "GFLOP"], rows)


def _made(tree: Mapping) -> Markup:
    made = tree.get("made") or {}
    if not made:
        return tag("p", "This evaluation did not record its command, date and versions.", class_="missing")
    world_versions = look_up(tree, "world.versions")
    return definitions(
        {
            "Date": made.get("date"),
            "Command": tag("code", made.get("command") or "called from Python"),
            "Machine": made.get("machine"),
            "Device": made.get("device"),
            "Versions": _versions(made.get("versions")),
            "Trained with": _versions(world_versions),
            "Profile and seed": f"{look_up(tree, 'data.profile')}, {look_up(tree, 'data.seed')}",
            "Took": f"{short(look_up(tree, 'data.seconds') or 0)} seconds",
            "Meaning of every key": prose("`docs/metrics.md`"),
        }
    )


def _versions(versions: object) -> str | None:
    if not isinstance(versions, Mapping):
        return None
    return ", ".join(f"{name} {version}" for name, version in versions.items())
