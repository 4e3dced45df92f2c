"""What is decided about applications, in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.applications import app_name, ends_the_node, is_app_name, read_setting, start_order, variable_of


class TestStartOrder:
    @given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20)), max_size=20))
    def test_each_after_what_it_needs(self, needs):
        """Once; what a smaller number needs are greater ones, so there is no circle."""

        def dependencies(number):
            return [other for other in needs.get(number, ()) if other > number]

        order = start_order(0, dependencies)

        assert len(set(order)) == len(order)
        assert order[-1] == 0
        assert all(order.index(need) < order.index(one) for one in order for need in dependencies(one))

    def test_a_circle_is_named(self):
        """The way round, not the way there."""
        with pytest.raises(ValueError, match="circle: b → c → b"):
            start_order("a", {"a": "b", "b": "c", "c": "b"}.__getitem__)


class TestEndsTheNode:
    @pytest.mark.parametrize(
        ("type", "reason", "expected"),
        [
            ("permanent", "normal", True),
            ("permanent", "killed", True),
            ("transient", "normal", False),
            ("transient", "shutdown", True),
            ("transient", "killed", True),
            ("temporary", "killed", False),
        ],
    )
    def test_by_type_and_reason(self, type, reason, expected):
        """OTP's rule, in which a supervisor that gives up ends "shutdown"."""
        assert expected == ends_the_node(type, reason)


class TestNames:
    @pytest.mark.parametrize(
        ("class_name", "name"), [("Shop", "shop"), ("WebShop", "web_shop"), ("HTTPServer", "http_server"), ("_X", "x")]
    )
    def test_of_a_class(self, class_name, name):
        """Lower case, words apart."""
        assert name == app_name(class_name)
        assert is_app_name(name)

    @pytest.mark.parametrize("name", ["", "Shop", "a b", "1a", "a-b", None])
    def test_what_is_none(self, name):
        """It must fit into a variable of the environment."""
        assert not is_app_name(name)

    def test_of_a_variable(self):
        """Upper case."""
        assert "OTP_WEB_SHOP_PORT" == variable_of("web_shop", "port")


class TestReadSetting:
    @pytest.mark.parametrize(
        ("text", "like", "expected"),
        [("8080", 1, 8080), ("8080", "x", "8080"), ("true", False, True), ("a b", None, "a b"), ("1.5", None, 1.5)],
    )
    def test_like_what_it_replaces(self, text, like, expected):
        """A text stays a text."""
        assert expected == read_setting(text, like)
