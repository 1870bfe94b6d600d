"""Timing on other machines: the same job over two transports, Ray and HTTP."""

from __future__ import annotations

from bnas.measure.remote.client import WorkerDevice
from bnas.measure.remote.ray_device import RayDevice
from bnas.measure.remote.worker import serve

__all__ = ["RayDevice", "WorkerDevice", "serve"]
