"""The results as plain text for a reader who has never seen a world model: value, what to compare it with, verdict."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from train.evaluate.budget import GFLOP_BUDGET, PARAMETER_BUDGET
from train.evaluate.results import left_out, look_up

Tree = Mapping[str, object]
_ROLLOUT_STEPS = (1, 4, 8, 16, 32, 64, 128, 256, 512)


class Row(NamedTuple):
    """One line: what, its value, what it stands against, the verdict, what it means."""

    name: str
    value: str
    against: str
    verdict: str
    meaning: str


def sections(tree: Tree) -> list[tuple[str, list[Row]]]:
    """The rows under their titles, one row where all was left out; `tree` is the content of metrics.json."""
    parts: tuple[tuple[str, Callable[[Tree], list[Row]], str], ...] = (
        ("PICTURE: a frame through encoder and decoder", _picture, "reconstruction.psnr"),
        (
            "ROLLOUT: a clip continued with the codes of its true future (held: its last frame kept; mean: mean frame)",
            _rollout,
            "rollout.psnr",
        ),
        ("CONTROL: does it matter which action is pressed?", _control, "control.delta_psnr"),
        ("ACTIONS: what the codes stand for", _actions, "actions.usage"),
        ("DRIFT: long rollouts", _drift, "drift.colour"),
        ("PLAY AND BUDGET", _play, "budget.parameters"),
    )
    return [(title, _unasked(tree, key) or rows(tree)) for title, rows, key in parts]


def _unasked(tree: Tree, key: str) -> list[Row]:
    """The one row of a section whose measures nobody asked for, `key` among them; else none."""
    reason = left_out(tree, key)
    return [Row("all of it", "-", "", "not measured", reason)] if reason else []


def format_table(tree: Tree) -> str:
    """The table as text, with its heading."""
    parts = sections(tree)
    widths = [max(len(cell) for _, rows in parts for cell in (row[column] for row in rows)) for column in range(4)]
    lines = [_heading(tree)]
    for title, rows in parts:
        lines += ["", title]
        lines += ["  " + "  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r.meaning]) for r in rows]
    lines += ["", "Intervals, n, seeds and the reasons for what is missing: metrics.json, under `details`."]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _heading(tree: Tree) -> str:
    data = tree.get("data", {})
    return (
        f"{data.get('clips')} clips of {data.get('prompt')} + {data.get('steps')} frames from {data.get('frames')} "
        f"frames of {data.get('subject')}, profile {data.get('profile')}, seed {data.get('seed')}. "
        f"Held out? {data.get('heldout')}. Mean frame of: {data.get('mean_frame_source')}."
    )


def _picture(tree: Tree) -> list[Row]:
    value, floor = look_up(tree, "reconstruction.psnr"), look_up(tree, "reconstruction.mean_frame_psnr")
    sharp = look_up(tree, "reconstruction.sharpness")
    rows = [
        Row(
            "PSNR", _number(value, "dB"), f"mean frame {_number(floor, 'dB')}",
            above(value, floor, "dB", enough=3.0), "closeness of pixels; more is better",
        ),
        Row(
            "sharpness", _number(sharp), "1 = as the truth",
            _sharp(sharp), "edges kept; a blur scores near 0",
        ),
        _plain(tree, "SSIM", "reconstruction.ssim", "1 = equal", "likeness of local structure"),
        _plain(tree, "LPIPS", "reconstruction.lpips", "0 = equal", "distance as people see it"),
        _plain(tree, "fixed point", "reconstruction.fixed_point", "0 = consistent", "does w survive its own picture?"),
    ]  # fmt: skip
    return rows


def _rollout(tree: Tree) -> list[Row]:
    psnr = look_up(tree, "rollout.psnr") or {}
    rows = []
    for step in (h for h in _ROLLOUT_STEPS if str(h) in psnr):
        value, copy = psnr[str(step)], look_up(tree, f"rollout.copy_last_psnr.{step}")
        mean = look_up(tree, f"rollout.mean_frame_psnr.{step}")
        rows.append(
            Row(
                f"PSNR at step {step}", _number(value, "dB"),
                f"held {_number(copy)}, mean {_number(mean)}",
                above(value, copy, "dB", than="held"), "closeness to what really came",
            )
        )  # fmt: skip
    last = max((int(h) for h in psnr), default=0)
    horizon = look_up(tree, "rollout.horizon")
    sharp = look_up(tree, f"rollout.sharpness.{last}")
    rows.append(
        Row(
            "horizon", f"{horizon} steps", f"{last} measured", says(horizon, (horizon or 0) > 0, "predicts", "never"),
            "last step that beats a held frame",
        )
    )  # fmt: skip
    rows.append(
        Row(
            f"sharpness at step {last}", _number(sharp), "1 = as the truth",
            _sharp(sharp), "edges kept at the end",
        )
    )  # fmt: skip
    return rows


def _control(tree: Tree) -> list[Row]:
    rows = []
    for name, key in (("uniform", "delta_psnr"), ("empirical", "delta_psnr_empirical")):
        for step in (1, 4, 16):
            value = look_up(tree, f"control.{key}.{step}")
            interval = look_up(tree, f"details.control.{key}.interval.{step}")
            sure = value is not None and isinstance(interval, list) and interval[0] > 0
            meaning = "what wrong actions cost" + (" (the main figure)" if (name, step) == ("uniform", 4) else "")
            verdict = says(value, sure, "steers", "not shown")
            rows.append(Row(f"delta PSNR, step {step}, {name}", _number(value, "dB"), "0 = deaf", verdict, meaning))
    return rows


def _actions(tree: Tree) -> list[Row]:
    count = look_up(tree, "details.actions.usage.best")
    usage = look_up(tree, "actions.usage")
    rows = [
        Row("codes in use", f"{usage}", f"of {count}", says(usage, (usage or 0) >= 4, "ok", "few"), "at least 1% each"),
        _plain(tree, "perplexity", "actions.perplexity", f"at most {count}", "codes in use, weighed by how often"),
    ]
    names = {
        "nmi": ("agreement (NMI)", "shared information with the true actions; 1 = the same"),
        "probe_accuracy": ("probe accuracy", "true action read from the code, other episodes"),
        "mode_accuracy": ("dictionary accuracy", "true action named by the code, from 200 labels"),
        "supervised_accuracy": ("supervised ceiling", "what a classifier with labels reaches"),
        "consistency": ("consistency", "likeness of what one code does from many prompts; 1 = the same"),
    }
    for key, (name, meaning) in names.items():
        value, chance = look_up(tree, f"actions.{key}"), look_up(tree, f"actions.chance.{key}")
        against = f"chance {_number(chance)}"
        rows.append(Row(name, _number(value), against, above(value, chance, "", than="chance"), meaning))
    value, chance = look_up(tree, "latents.code_recovery"), look_up(tree, "latents.chance.code_recovery")
    meaning = "code read from two w: does w keep motion?"
    rows.append(
        Row(
            "code from w",
            _number(value),
            f"chance {_number(chance)}",
            above(value, chance, "", than="chance"),
            meaning,
        )
    )
    return rows


def _drift(tree: Tree) -> list[Row]:
    steps = [h for h, v in (look_up(tree, "drift.colour") or {}).items() if v is not None]
    rows = []
    for how, suffix in (("random", ""), ("held", "_held")):
        for step in steps:
            value = look_up(tree, f"drift.colour{suffix}.{step}")
            verdict = says(value, (value or 0) < 20, "stable", "colours run away")
            name = f"colours at step {step}, {how}"
            rows.append(
                Row(name, _number(value, "grey levels"), "0 = as the data", verdict, "shift of colour and contrast")
            )
    for step in steps:
        rows.append(
            _plain(tree, f"Frechet w at step {step}", f"drift.frechet_w.{step}", "1 = as the data", "w of rollouts")
        )
    return rows


def _play(tree: Tree) -> list[Row]:
    fps, wanted = look_up(tree, "play.fps"), look_up(tree, "data.fps")
    parameters, cost = look_up(tree, "budget.parameters.total"), look_up(tree, "budget.gflop_per_frame.total")
    live = says(fps, (fps or 0) >= (wanted or 0), "live", "too slow")
    rows = [
        Row("frames per second", _number(fps), f"video {_number(wanted)}", live, "one player, this machine"),
        _plain(tree, "95% of frames within", "play.p95_ms", "", "how evenly it runs", "ms"),
        _plain(tree, "first frame after", "play.first_frame_ms", "", "with compilation", "ms"),
        _plain(tree, "peak memory", "play.peak_memory_mb", "", "of the playing process", "MiB"),
    ]
    for name, value, unit, most in (
        ("parameters", None if parameters is None else parameters / 1e6, "M", PARAMETER_BUDGET / 1e6),
        ("arithmetic of a frame", cost, "GFLOP", GFLOP_BUDGET),
    ):
        verdict = says(value, (value or 0) <= most, "within budget", "over budget")
        rows.append(Row(name, _number(value, unit), f"at most {most:g} {unit}", verdict, "all that play loads"))
    return rows


def _plain(tree: Tree, name: str, key: str, against: str, meaning: str, unit: str = "") -> Row:
    value = look_up(tree, key)
    return Row(name, _number(value, unit), against, "" if value is not None else "not measured", meaning)


def _number(value: object, unit: str = "") -> str:
    if value is None:
        return "-"
    number = round(float(value), 2) + 0.0  # no minus before a zero
    text = f"{number:.0f}" if abs(number) >= 1000 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"
    return f"{text} {unit}".rstrip()


def _sharp(value: object) -> str:
    return says(value, (value or 0) <= 1.5, "keeps detail" if (value or 0) >= 0.5 else "blurred", "noise, not detail")


def above(value: object, floor: object, unit: str, *, than: str = "the floor", enough: float = 0.0) -> str:
    """The verdict on a value of which more is better, in words."""
    if value is None or floor is None:
        return "not measured"
    gain = float(value) - float(floor)
    if gain <= 0:
        return f"no better than {than}"
    return f"{'beats' if gain >= enough else 'hardly beats'} {than} by {_number(gain, unit)}"


def says(value: object, good: bool, yes: str, no: str) -> str:
    """The verdict on a value that is good or not, in words."""
    if value is None:
        return "not measured"
    return yes if good else no
