from __future__ import annotations

import pytest

from bnas.data import DATASETS, DataConfig, load_data
from bnas.errors import ConfigError


def test_an_unknown_data_set_gets_a_suggestion() -> None:
    with pytest.raises(
        ConfigError, match=r"data.name: no data set 'fashion_mnits'; did you mean 'fashion_mnist'"
    ):
        load_data(DataConfig(name="fashion_mnits"))


def test_a_data_set_joins_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = DATASETS["embedded"]
    monkeypatch.setitem(DATASETS, "mine", embedded)
    assert load_data(DataConfig(name="mine", val_images=5)).name == "mine"
