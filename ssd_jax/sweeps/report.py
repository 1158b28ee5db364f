"""The report of a sweep, finished or not: tables, figures and one HTML page in DIR/report."""

from pathlib import Path

from ssd_jax.sweeps import aggregate, figures
from ssd_jax.sweeps.html_report import format_html
from ssd_jax.sweeps.prior_recall import with_prior_recall
from ssd_jax.sweeps.run_status import read_status
from ssd_jax.sweeps.sweep_file import read_sweep


def write_report(folder: Path) -> Path:
    """Write table.csv, table.md, figures and index.html into `folder`/report; returns the page.

    Run folders are read and, for prior recall, the test annotations. Raises DataError where the
    folder holds no sweep.
    """
    sweep = read_sweep(folder)
    statuses = list(with_prior_recall([read_status(folder, run) for run in sweep.runs]))
    settings = aggregate.group_by_setting(statuses)
    output = folder / "report"
    output.mkdir(exist_ok=True)
    (output / "table.csv").write_text(aggregate.to_csv(settings))
    (output / "table.md").write_text(aggregate.to_markdown(settings))
    plots = list(figures.plot_all(settings, output))
    page = output / "index.html"
    page.write_text(format_html(sweep, statuses, settings, plots))
    return page
