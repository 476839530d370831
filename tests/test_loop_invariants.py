"""Time and text projections taken out of the step: the models stay as they are, unknown ones are refused.

That the three graphs together equal diffusers is tested in test_export.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import UNet2DConditionModel

from export.loop_invariants import Invariants
from export.tiny.random_pack import make_modules


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    return make_modules(seed=0)


def test_the_given_models_are_not_touched_by_the_split(modules: dict[str, Any]) -> None:
    models = {name: modules[name] for name in ("unet", "controlnet")}
    before = {name: [type(m) for m in model.modules()] for name, model in models.items()}
    invariants = Invariants.of(models)
    for name, model in models.items():
        twin = invariants.twin(name, model)
        assert [type(m) for m in model.modules()] == before[name]
        own = dict(model.named_parameters())
        shared = dict(twin.named_parameters())
        assert all(own[key] is value for key, value in shared.items())
        gone = own.keys() - shared.keys()
        parts = ("time_emb_proj", "attn2.to_k", "attn2.to_v", "time_embedding")
        assert gone and all(any(part in key for part in parts) for key in gone)


def test_a_unet_with_another_condition_is_refused(modules: dict[str, Any]) -> None:
    config = dict(modules["unet"].config) | {"class_embed_type": "timestep", "_use_default_values": []}
    with pytest.raises(ValueError, match="class_embed_type"):
        Invariants.of({"unet": UNet2DConditionModel.from_config(config)})
