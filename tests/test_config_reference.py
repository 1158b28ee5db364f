from pathlib import Path

from scripts import config_reference

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"


def test_the_page_is_that_of_the_schema():
    """Run `python -m scripts.config_reference > docs/config.md` after a change of a field."""
    assert PAGE.read_text() == config_reference.reference()
