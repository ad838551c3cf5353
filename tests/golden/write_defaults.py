"""Write the defaults that ids rely on: `python tests/golden/write_defaults.py` after adding a setting or a function."""

from __future__ import annotations

import json
from pathlib import Path

from sweep.config.recipe import Recipe
from sweep.core.registry import NEEDS, get_plugin, list_plugins

fields = {
    f"{kind}/{name}": get_plugin(kind, name).settings.model_fields for kind in NEEDS for name in list_plugins(kind)
}
defaults = {name: {key: field.default for key, field in each.items()} for name, each in fields.items()}
defaults["recipe"] = Recipe().model_dump(mode="json")
(Path(__file__).parent / "defaults.json").write_text(json.dumps(defaults, indent=1, sort_keys=True, default=str) + "\n")
