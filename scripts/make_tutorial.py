"""Run docs/tutorial.py and write docs/tutorial.ipynb, with what its cells print and show.

pip install jupytext nbclient ipykernel
python -m scripts.make_tutorial
"""

import tempfile
from pathlib import Path

_DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    """The command."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(_DOCS / "tutorial.py")
    del notebook.cells[0]  # what only the source says of itself
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, resources={"metadata": {"path": folder}}).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in every version
        cell.metadata = {}  # times of execution
        if cell.cell_type == "code":  # lines of progress
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            if "image/jpeg" in output.get("data", {}):
                del output["data"]["image/png"]  # the same picture, ten times as large
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    jupytext.write(notebook, _DOCS / "tutorial.ipynb")


if __name__ == "__main__":
    main()
