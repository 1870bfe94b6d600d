from __future__ import annotations

import pytest
from miniature_imagenet import Miniature, make_miniature


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """For reading alone, but for configurations, which have names of their own."""
    return make_miniature(tmp_path_factory.mktemp("imagenet"))
