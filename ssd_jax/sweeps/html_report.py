"""The report as one HTML page that needs no other file: pictures are embedded."""

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2

from ssd_jax.config.serialization import to_dict
from ssd_jax.runs.results import describe_weights
from ssd_jax.sweeps import aggregate, plan
from ssd_jax.sweeps.aggregate import Setting
from ssd_jax.sweeps.run_status import RunStatus

_MAX_WIDTH = 900  # pixels of a picture of detections
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #0a73; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, figcaption, summary { max-width: 60rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { background: var(--soft); } th, td.n { white-space: nowrap; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
td.best { background: var(--good); font-weight: 600; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); }
figure { margin: 0; } img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
figcaption { font-size: .85rem; } code, pre { font-size: .8rem; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; }
"""  # noqa: E501
_NOTE = (
    "<p>Mean ± standard deviation over seeds; the largest mean of a column is marked. mAP@.5 is "
    "PASCAL VOC's with the area under the curve, AP is COCO's with its sizes of objects (small "
    "below 32² pixels of the original image, large from 96² on). Prior recall is the share of test "
    "boxes that have a prior with IoU ≥ .5, a mean over classes; images/s is the training rate.</p>"
)


def format_html(
    sweep: plan.Sweep,
    statuses: Sequence[RunStatus],
    settings: Sequence[Setting],
    figures: Sequence[tuple[str, Path]],
) -> str:
    """The whole page; `figures` are (title, PNG file)."""
    images = [_image(_embed_png(path), title) for title, path in figures]
    sections = [
        _overview(sweep, statuses),
        _section("Scores", f"<div class=wide>{_score_table(settings)}</div>{_NOTE}"),
        _section("Figures", _grid(images)),
        _section("Detections on held-out images", _detections(settings)),
        _section("Runs", f"<div class=wide>{_run_table(settings)}</div>"),
        _base_config(sweep),
    ]
    title = escape(f"Sweep of {sweep.file}")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1>{''.join(sections)}</body></html>\n"
    )


def _overview(sweep: plan.Sweep, statuses: Sequence[RunStatus]) -> str:
    counts = {
        state: sum(status.state == state for status in statuses)
        for state in ("finished", "failed", "unfinished", "not started")
    }
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    overrides = f" with {escape(plan.format_overrides(sweep.overrides))}" if sweep.overrides else ""
    fields = ", ".join(map(escape, aggregate.differing_fields(statuses)))
    return (
        f"<p>{len(statuses)} runs: {states}{overrides}. They differ in <code>{fields}</code>. "
        f"Scores are of {describe_weights(sweep.base)}.</p>"
    )


def _score_table(settings: Sequence[Setting]) -> str:
    best = {column: aggregate.best_row(settings, column) for column in aggregate.COLUMNS}
    rows = [_row("th", ["", *settings[0].values, *aggregate.COLUMNS, "seeds"])]
    for row, setting in enumerate(settings):
        cells = [f"<th>{setting.letter}</th>"]
        cells += [
            f"<td>{escape(aggregate.format_value(value))}" for value in setting.values.values()
        ]
        for column in aggregate.COLUMNS:
            kind = "n best" if best[column] == row else "n"
            score = aggregate.format_summary(column, setting.summary(column))
            cells.append(f'<td class="{kind}">{score}')
        seeds = aggregate.format_seed_count(setting)
        rows.append(f"<tr>{''.join(cells)}<td class=n>{seeds}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _detections(settings: Sequence[Setting]) -> str:
    """The newest picture of one run of each setting, of a finished one if there is one."""
    figures = []
    for setting in settings:
        statuses = [status for status in setting.statuses if status.picture]
        statuses.sort(key=lambda status: status.state != "finished")
        if statuses:
            picture, seed = statuses[0].picture, statuses[0].run.config.seed
            step = int(picture.stem.rpartition("_")[2])
            caption = f"{setting.letter}: {setting.label} (seed {seed}, step {step})"
            figures.append(_figure(_embed_jpeg(picture), caption))
    return _grid(figures) if figures else "<p>None yet.</p>"


def _run_table(settings: Sequence[Setting]) -> str:
    rows = [_row("th", ["run", "setting", "seed", "state", ""])]
    for setting in settings:
        name = f"{setting.letter}: {setting.label}"
        rows += [
            _row("td", [
                status.run.id, name, str(status.run.config.seed), status.state, status.detail
            ])
            for status in setting.statuses
        ]  # fmt: skip
    return f"<table>{''.join(rows)}</table>"


def _base_config(sweep: plan.Sweep) -> str:
    config = escape(json.dumps(to_dict(sweep.base), indent=2))
    return f"<details><summary>The base config</summary><pre>{config}</pre></details>"


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _grid(figures: list[str]) -> str:
    return f"<div class=grid>{''.join(figures)}</div>"


def _row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _figure(source: str, caption: str) -> str:
    text = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure>{_image(source, caption)}{text}</figure>"


def _image(source: str, description: str) -> str:
    return f'<img src="{source}" alt="{escape(description)}">'


def _embed_png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _embed_jpeg(path: Path) -> str:
    """A picture as JPEG, scaled down where it is wider than `_MAX_WIDTH`."""
    image = cv2.imread(str(path))
    scale = min(1.0, _MAX_WIDTH / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
