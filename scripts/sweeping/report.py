"""`--report`: table.csv, table.md, pictures and index.html of a sweep, finished or not."""

from pathlib import Path

from scripts.sweeping import figures, groups, page, plan, recall, record


def write(folder: Path) -> Path:
    """Write DIR/report from the run folders (and the test annotations); returns the HTML page.

    Raises DataError where the folder holds no sweep.
    """
    sweep = plan.load(folder)
    records = list(recall.added([record.read(folder, run) for run in sweep.runs]))
    found = groups.settings(records)
    output = folder / "report"
    output.mkdir(exist_ok=True)
    (output / "table.csv").write_text(groups.to_csv(found))
    (output / "table.md").write_text(groups.to_markdown(found))
    pictures = list(figures.draw_all(found, output))
    html = output / "index.html"
    html.write_text(page.page(sweep, records, found, pictures))
    return html
