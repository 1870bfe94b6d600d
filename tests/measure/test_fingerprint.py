from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from small_networks import small_net

from bnas.errors import MeasureError
from bnas.export import OpenVinoIR, Quantized, convert, export
from bnas.measure.fingerprint import fingerprint

EXAMPLE = torch.zeros(1, 3, 16, 16)


def test_equal_networks_have_equal_digests_and_others_have_not() -> None:
    """Converted one after the other: a process counts the names of the operations."""
    one, same, other, wider = (
        fingerprint(Quantized(model=convert(net, EXAMPLE), precision="f32"))
        for net in (small_net(), small_net(), small_net(seed=1), small_net(width=24))
    )
    assert one == same
    assert len({one[0], other[0], wider[0]}) == 3
    assert one[1] == other[1] < wider[1]


def test_a_module_is_known_by_its_state() -> None:
    one, same, other = (fingerprint(net) for net in (small_net(), small_net(), small_net(seed=1)))
    assert one == same != other
    state = small_net().state_dict().values()
    assert one[1] == sum(tensor.numel() * tensor.element_size() for tensor in state)


def test_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    artefact = export(small_net(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    digest, size_bytes = fingerprint(tmp_path / "net.xml")
    assert size_bytes == artefact.size_bytes
    xml, weights = ((tmp_path / name).read_bytes() for name in ("net.xml", "net.bin"))
    assert digest == hashlib.sha256(b".xml" + xml + b".bin" + weights).hexdigest()
    (tmp_path / "net.bin").write_bytes(weights[:-1] + b"?")
    assert fingerprint(tmp_path / "net.xml")[0] != digest


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(MeasureError, match="type Quantized has no digest"):
        fingerprint(Quantized(model=object()))
