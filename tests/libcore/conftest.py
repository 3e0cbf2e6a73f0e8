"""Hypothesis for libcore: no deadline, because a busy machine is no defect of what is tested."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headrace", deadline=None)
settings.load_profile("headrace")
