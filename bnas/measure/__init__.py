"""Measuring: latency of finished networks on a machine, and a predictor fitted on it."""

from __future__ import annotations

from bnas.measure.backends import BACKENDS, Backend, Runner, prepare, throughput_per_s
from bnas.measure.campaign import campaign
from bnas.measure.check import check, print_check
from bnas.measure.device import Device, Here, Timed
from bnas.measure.hardware import Hardware, HwConfig, detect
from bnas.measure.latency import (
    Figures,
    LatencyModel,
    Prediction,
    fit_latency,
    learning_curve,
    predict,
    predict_many,
    predict_ms,
)
from bnas.measure.noise import refuse_if_noisy
from bnas.measure.record import Measurement
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved
from bnas.measure.transfer import transfer

__all__ = [
    "BACKENDS",
    "Backend",
    "Device",
    "Figures",
    "Hardware",
    "Here",
    "HwConfig",
    "LatencyModel",
    "MeasureConfig",
    "Measurement",
    "Prediction",
    "Runner",
    "Timed",
    "Timing",
    "campaign",
    "check",
    "detect",
    "fit_latency",
    "learning_curve",
    "predict",
    "predict_many",
    "predict_ms",
    "prepare",
    "print_check",
    "refuse_if_noisy",
    "throughput_per_s",
    "time_interleaved",
    "transfer",
]
