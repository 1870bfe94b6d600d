"""Measuring: latency of finished networks on this machine, and a predictor fitted on it."""

from __future__ import annotations

from bnas.measure.backends import BACKENDS, Backend, Runner, prepare, throughput_per_s
from bnas.measure.campaign import Measurement, campaign, choose, time_artefacts
from bnas.measure.hardware import Hardware, HwConfig, detect
from bnas.measure.latency import LatencyModel, fit_latency, predict_ms
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved

__all__ = [
    "BACKENDS",
    "Backend",
    "Hardware",
    "HwConfig",
    "LatencyModel",
    "MeasureConfig",
    "Measurement",
    "Runner",
    "Timing",
    "campaign",
    "choose",
    "detect",
    "fit_latency",
    "predict_ms",
    "prepare",
    "throughput_per_s",
    "time_artefacts",
    "time_interleaved",
]
