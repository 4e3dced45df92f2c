"""The pictures and the page: what is drawn where, and that it is well-formed."""

import re
import xml.etree.ElementTree as ET

import pytest

from otp_runtime.cli.bench.machine import Machine
from scripts.bench.markdown import page_tables, put, table
from scripts.bench.measures import Point
from scripts.bench.plot import Curve, curves, svg
from scripts.bench.report import make_row
from scripts.bench.suite import SUITE

MACHINE = Machine("A & B", 2, "6.1", "3.11", 0.0, 0.1)
ROWS = [
    make_row("echo-100k-free", "echo", "ms", [[2.0]], [[1.0]]),
    make_row("echo-1k-free", "echo", "us", [[8.0]], [[4.0]]),
    make_row("memory", "memory", "MB", [[2.0]]),
]
POINTS = {"echo-1k-free": Point("bytes", "free", 1e3), "echo-100k-free": Point("bytes", "free", 1e5), "memory": None}


def parsed(text):
    return ET.fromstring(text)  # noqa: S314 - our own text


class TestCurves:
    def test_points_are_sorted_and_times_are_of_one_unit(self):
        found = curves(ROWS, POINTS)

        assert {"bytes": [Curve("free", ((1e3, 8.0), (1e5, 2000.0)), ((1e3, 4.0), (1e5, 1000.0)))]} == found

    def test_nothing_is_drawn_that_has_no_logarithm(self):
        assert {} == curves([make_row("idle", "idle", "%", [[0.0]])], {"idle": Point("servers", "idle", 10)})


class TestSvg:
    def test_it_is_well_formed_and_has_a_line_for_each_curve(self):
        root = parsed(svg(MACHINE, ROWS, POINTS))

        lines = [one.get("class") for one in root.iter("{http://www.w3.org/2000/svg}polyline")]
        assert ["floor c0", "ours c0"] == lines

    def test_it_has_colours_for_a_dark_ground(self):
        assert "@media (prefers-color-scheme:dark)" in svg(MACHINE, ROWS, POINTS)

    def test_without_anything_to_draw_it_says_so(self):
        words = [one.text for one in parsed(svg(MACHINE, [], {})).iter("{http://www.w3.org/2000/svg}text")]

        assert "Nothing that was measured has a scale." == words[-1]

    def test_every_point_of_the_suite_has_a_picture(self):
        rows = [make_row(measure.name, measure.what, measure.unit, [[2.0]], [[1.0]]) for measure in SUITE]
        points = {measure.name: measure.point for measure in SUITE}

        root = parsed(svg(MACHINE, rows, points))

        drawn = len(list(root.iter("{http://www.w3.org/2000/svg}circle")))
        assert drawn == sum(measure.point is not None for measure in SUITE)


class TestMarkdown:
    def test_a_table(self):
        assert "| a | b | c |\n| --- | ---: | --- |\n| 1 | 2 | 3 |" == table("abc", ["123"])

    def test_the_page_names_the_machine_and_what_is_missing(self):
        text = page_tables(MACHINE, ROWS, {"c-free": "no compiler", "c-one-core": "no compiler"})

        assert text.startswith("Measured on: A & B, 2 cores, Linux 6.1, Python 3.11.")
        assert "| echo | 8.00 µs | 8.00 µs | 4.00 µs | 2.00 |" in text
        assert text.endswith("Not measured: c-free, c-one-core: no compiler.")

    def test_a_busy_machine_is_said(self):
        assert "not for publication" in str(Machine("A", 2, "6.1", "3.11", 40.0, 3.0))

    def test_a_page_gets_new_tables_between_its_marks(self):
        page = "a <!-- bench: begin --> old <!-- bench: end --> b"

        assert "a <!-- bench: begin -->\n\nnew\n\n<!-- bench: end --> b" == put(page, "bench", "new")

    def test_a_page_without_marks_is_not_touched(self):
        with pytest.raises(ValueError, match=re.escape("no marks <!-- peers: begin --> and <!-- peers: end -->")):
            put("a <!-- peers: begin -->", "peers", "new")
