"""On a Ray cluster of three nodes on loopback: the head, which is no device, and two devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ray_cluster import NODE, loopback_cluster, until
from small_networks import small_net

from bnas import progress
from bnas.cluster import RayConfig
from bnas.errors import ConfigError, MeasureError
from bnas.export import Quantized, convert
from bnas.measure import HwConfig, MeasureConfig, detect
from bnas.measure.remote import RayDevice

EXAMPLE = torch.zeros(1, 3, 16, 16)
LONG = MeasureConfig(min_rounds=30, max_rounds=30, block_ms=2, warmup_ms=1)
DEVICE = {**NODE, "resources": {"bnas_device:small": 1}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with loopback_cluster() as made:
        yield made


def network(width: int) -> Quantized:
    return Quantized(model=convert(small_net(width), EXAMPLE), precision="f32")


def connect(cluster: Any, device: str = "small") -> RayDevice:
    hw = HwConfig(precision="f32", threads=1, where="ray", device=device)
    return RayDevice(hw, LONG, network(8), EXAMPLE, ray=RayConfig(address=cluster.address))


def test_the_work_of_lost_nodes_is_done_by_others(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    said: list[str] = []
    joins: list[dict[str, Any]] = []  # nodes that join the cluster as soon as none is left

    def say(line: str) -> None:
        said.append(line)
        if "waiting for one" in line and joins:
            cluster.add_node(**joins.pop())

    monkeypatch.setattr(progress, "say", say)
    nodes = [cluster.add_node(**DEVICE) for _ in range(2)]
    device = connect(cluster)
    try:
        assert device.hardware == detect(HwConfig(precision="f32", threads=1))
        assert device.capacity == 4
        for key in range(4):
            device.submit(key, network(8 + 8 * key), EXAMPLE)
        until(lambda: not ray.available_resources().get("bnas_device:small"))  # both are at work
        cluster.remove_node(nodes[0], allow_graceful=False)
        found = {}
        while len(found) < 4:
            found |= dict(device.results())
        assert sorted(found) == [0, 1, 2, 3]
        rounds = {timed.subnet.rounds for timed in found.values()}
        assert rounds <= set(range(30, 61))  # more than asked for where the machine was not calm
        assert len({timed.artefact for timed in found.values()}) == 4
        (lost,) = [line for line in said if "was lost while it timed network" in line]
        assert "bnas_device:small" in lost
        until(lambda: device.capacity == 2)  # the head learns of the loss a little later

        cluster.remove_node(nodes[1], allow_graceful=False)
        device.submit(4, network(16), EXAMPLE)
        joins.append(DEVICE)
        assert [key for key, _ in device.results()] == [4]
        assert not joins
    finally:
        device.close()
    assert not ray.is_initialized()


def test_without_a_device(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = cluster.add_node(**{**NODE, "resources": {"bnas_device:xeon8380": 1}})
    with pytest.raises(
        ConfigError, match=r"bnas_device:xeon8830; did you mean 'xeon8380'\?; start one with `ray start"
    ):
        connect(cluster, "xeon8830")
    device = connect(cluster, "xeon8380")
    monkeypatch.setattr(device, "_wait_s", 1.0)  # only now: to connect takes longer
    cluster.remove_node(node, allow_graceful=False)
    device.submit(0, network(8), EXAMPLE)
    with pytest.raises(MeasureError, match=r"was a bnas_device:xeon8380 for 1 s \(ray.wait_s\)"):
        list(device.results())
    device.close()


def test_a_network_that_cannot_be_timed_is_told(cluster: Any, tmp_path: Any) -> None:
    node = cluster.add_node(**{**NODE, "resources": {"bnas_device:one": 1}})
    device = connect(cluster, "one")
    (tmp_path / "net.xml").write_text("<net")
    device.submit(0, tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(MeasureError, match="cannot be read"):
        list(device.results())
    device.close()
    cluster.remove_node(node)
