"""Imported by no program of the tests, but by a function that one of them runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    day: str
