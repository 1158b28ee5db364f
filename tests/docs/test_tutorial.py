"""The notebook is that of its source; .ci/run runs its code with the installed package."""

import json
from pathlib import Path

from commands import ROOT

DOCS = ROOT / "docs"


def code_cells(path: Path) -> list[str]:
    """The code cells of a notebook, or of its source with `# %%` before each cell."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text())["cells"]
        return ["".join(each["source"]) for each in cells if each["cell_type"] == "code"]
    cells = path.read_text().split("# %%")[1:]
    return [each.strip() for each in cells if not each.startswith(" [markdown]")]


def test_the_notebook_has_the_cells_of_its_source_and_pictures():
    cells = code_cells(DOCS / "tutorial.ipynb")
    assert len(cells) > 5 and cells == code_cells(DOCS / "tutorial.py")
    content = json.loads((DOCS / "tutorial.ipynb").read_text())
    outputs = [each for cell in content["cells"] for each in cell.get("outputs", [])]
    assert not [each for each in outputs if each["output_type"] == "error"]
    assert sum(any("image/" in kind for kind in each.get("data", ())) for each in outputs) >= 3
