"""Print docs/config.md: every field of a config with its rule, default and meaning.

python -m scripts.config_reference > docs/config.md
"""

from configs import ssd300_vgg16_voc
from ssd_jax.config.comparison import flatten_fields
from ssd_jax.config.schema import CROSS_FIELD_RULES, FIELDS

_HEAD = """# Fields of a config

Every experiment has all of these fields. The defaults are those of
[`configs/ssd300_vgg16_voc.py`](../configs/ssd300_vgg16_voc.py), from which all other configs start.
`--config.FIELD=VALUE` sets one on the command line. A config is checked before JAX starts.

This page is made by `python -m scripts.config_reference > docs/config.md`.
"""
_COMBINATIONS = """## Fields that must fit together

A message names the first of these fields and the values of the others.
"""


def reference() -> str:
    """The page, in Markdown: a table for each block of fields."""
    defaults = flatten_fields(ssd300_vgg16_voc.get_config().to_dict())
    blocks: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        block = name.partition(".")[0] if "." in name else "run"
        default = f"`{defaults[name]!r}`" if name in defaults else ""
        cells = (f"`{name}`", default, field.rule.description, field.meaning)
        row = " | ".join(cell.replace("|", "/") for cell in cells)
        blocks.setdefault(block, []).append(f"| {row} |")
    lines = [_HEAD]
    for block, rows in blocks.items():
        head = ["| field | default | must be | meaning |", "|---|---|---|---|"]
        lines += [f"## {block}\n", *head, *rows, ""]
    lines.append(_COMBINATIONS)
    for (first, *others), _, message in CROSS_FIELD_RULES:
        named = ", ".join(f"`{name}`" for name in others)
        lines.append(f"- `{first}` {message} ({named}).")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
