"""The report as one HTML page that needs nothing else: pictures are inside it."""

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2

from scripts.sweeping import groups, plan
from scripts.sweeping.groups import Setting
from scripts.sweeping.record import Record
from ssd_jax import config as configs

_WIDEST = 900  # pixels of a picture of detections
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


def page(
    sweep: plan.Sweep,
    records: Sequence[Record],
    found: Sequence[Setting],
    pictures: Sequence[tuple[str, Path]],
) -> str:
    """The whole page."""
    sections = [
        _head(sweep, records),
        _section("Scores", f"<div class=wide>{_scores(found)}</div>{_NOTE}"),
        _section("Pictures", _grid([_image(_png(path), title) for title, path in pictures])),
        _section("Detections on held-out images", _detections(found)),
        _section("Runs", f"<div class=wide>{_runs(found)}</div>"),
        _base(sweep),
    ]
    title = escape(f"Sweep of {sweep.file}")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1>{''.join(sections)}</body></html>\n"
    )


_NOTE = (
    "<p>Mean ± standard deviation over seeds; the largest mean of a column is marked. mAP@.5 is "
    "PASCAL VOC's with the area under the curve, AP is COCO's with its sizes of objects (small "
    "below 32² pixels of the original image, large from 96² on). Recall is the share of test "
    "truths with a prior of IoU .5, a mean over classes; images/s counts training.</p>"
)


def _head(sweep: plan.Sweep, records: Sequence[Record]) -> str:
    counts = {
        state: sum(record.state == state for record in records)
        for state in ("finished", "failed", "unfinished", "not started")
    }
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    given = f" with {escape(plan.words(sweep.given))}" if sweep.given else ""
    differ = ", ".join(map(escape, groups.differing(records)))
    return f"<p>{len(records)} runs: {words}{given}. They differ in <code>{differ}</code>.</p>"


def _scores(found: Sequence[Setting]) -> str:
    winners = {column: groups.best(found, column) for column in groups.COLUMNS}
    rows = [_row("th", ["", *found[0].values, *groups.COLUMNS, "seeds"])]
    for row, setting in enumerate(found):
        cells = [f"<th>{setting.letter}</th>"]
        cells += [f"<td>{escape(groups.text(value))}" for value in setting.values.values()]
        for column in groups.COLUMNS:
            kind = "n best" if winners[column] == row else "n"
            score = groups.shown(column, setting.statistic(column))
            cells.append(f'<td class="{kind}">{score}')
        rows.append(f"<tr>{''.join(cells)}<td class=n>{groups.seeds(setting)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _detections(found: Sequence[Setting]) -> str:
    """The newest picture of one run of each setting, finished ones before others."""
    figures = []
    for setting in found:
        shown = [record for record in setting.records if record.picture]
        shown.sort(key=lambda record: record.state != "finished")
        if shown:
            step = int(shown[0].picture.stem.rpartition("_")[2])
            caption = (
                f"{setting.letter}: {setting.label} (seed {shown[0].run.config.seed}, step {step})"
            )
            figures.append(_figure(_jpeg(shown[0].picture), caption))
    return _grid(figures) if figures else "<p>None yet.</p>"


def _runs(found: Sequence[Setting]) -> str:
    rows = [_row("th", ["run", "setting", "seed", "state", ""])]
    for setting in found:
        for record in setting.records:
            name = f"{setting.letter}: {setting.label}"
            cells = [record.run.id, name, str(record.run.config.seed), record.state, record.detail]
            rows.append(_row("td", cells))
    return f"<table>{''.join(rows)}</table>"


def _base(sweep: plan.Sweep) -> str:
    config = json.dumps(configs.to_dict(sweep.base), indent=2)
    return f"<details><summary>The config they start from</summary><pre>{escape(config)}</pre></details>"  # noqa: E501


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _grid(figures: list[str]) -> str:
    return f"<div class=grid>{''.join(figures)}</div>"


def _row(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _figure(source: str, caption: str) -> str:
    text = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure>{_image(source, caption)}{text}</figure>"


def _image(source: str, what: str) -> str:
    return f'<img src="{source}" alt="{escape(what)}">'


def _png(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _jpeg(path: Path) -> str:
    """A picture of detections, made smaller where it is large."""
    image = cv2.imread(str(path))
    scale = min(1.0, _WIDEST / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
