"""The settings of applications: where they come from, who reads them."""

import pytest

from otp_runtime import Agent, CodecError, application, process
from tests.application.apps import Library, Reader, Stock

CONFIG = """
[stock]
size = 8
tags = ["a", "b"]

[other]
size = 1
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


class TestSources:
    """Of a class that no node has loaded: what it would be loaded with. No node is started for that."""

    def test_the_class(self):
        """Says the defaults."""
        assert 3 == application.get_env(Stock, "size")
        assert {"a": (1, 2)} == application.get_env(Stock, "deep")

    def test_a_file(self, config, monkeypatch):
        """Overrides and adds."""
        monkeypatch.setenv("OTP_CONFIG", str(config))

        assert (8, ["a", "b"], "red") == tuple(application.get_env(Stock, key) for key in ("size", "tags", "colour"))

    @pytest.mark.parametrize(
        ("key", "text", "expected"),
        [("size", "9", 9), ("size", '"big"', "big"), ("colour", "9", "9"), ("tags", "[1]", [1])],
    )
    def test_a_variable(self, config, monkeypatch, key, text, expected):
        """Overrides both; it is read like the value it replaces: a text as it is, else TOML."""
        monkeypatch.setenv("OTP_CONFIG", str(config))
        monkeypatch.setenv(f"OTP_STOCK_{key.upper()}", text)

        assert expected == application.get_env(Stock, key)

    def test_a_variable_of_no_setting(self, monkeypatch):
        """Is somebody else's."""
        monkeypatch.setenv("OTP_STOCK_HOUSE", "1")

        assert "house" not in application.get_all_env(Stock)

    def test_a_variable_that_cannot_be_read(self, monkeypatch):
        """Is named."""
        monkeypatch.setenv("OTP_STOCK_SIZE", "big and bold")

        with pytest.raises(ValueError, match="OTP_STOCK_SIZE: 'big and bold' is no TOML value"):
            application.get_env(Stock, "size")

    @pytest.mark.parametrize(("text", "error"), [("[stock", "cannot be read"), ("stock = 1", r"\[stock\]")])
    def test_a_broken_file(self, tmp_path, monkeypatch, text, error):
        """Is named, and what is wrong with it."""
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("OTP_CONFIG", str(path))

        with pytest.raises(ValueError, match=error):
            application.get_env(Stock, "size")

    def test_a_missing_file(self, monkeypatch):
        """As well."""
        monkeypatch.setenv("OTP_CONFIG", "/no/such/file.toml")

        with pytest.raises(ValueError, match=r"/no/such/file\.toml cannot be read"):
            application.get_all_env(Stock)


class TestGetEnv:
    def test_what_is_not_there(self):
        """The default, or KeyError."""
        assert (None, 7) == (application.get_env(Stock, "no"), application.get_env("nobody", "no", 7))
        with pytest.raises(KeyError, match="not loaded"):
            application.fetch_env("nobody", "no")


@pytest.mark.usefixtures("otp_node")
class TestInANode:
    def test_loading_fixes_them(self, config, monkeypatch):
        """What the loader's environment says later changes nothing."""
        application.load(Stock, config=config)
        monkeypatch.setenv("OTP_STOCK_SIZE", "9")

        assert (8, 8) == (application.get_env(Stock, "size"), application.fetch_env("stock", "size"))
        assert {"size": 8, "colour": "red", "deep": {"a": (1, 2)}, "tags": ["a", "b"]} == application.get_all_env(
            "stock"
        )

    def test_its_own_processes_read_them(self):
        """As `start` does, which runs elsewhere."""
        application.load(Reader)
        application.put_env("reader", "greeting", ("good", "evening"))
        application.start(Reader)

        assert ("good", "evening") == Agent.get("reader", lambda greeting: greeting)

    def test_put_is_seen_by_all(self):
        """At once."""
        application.put_env(Library, "level", 2)

        assert 2 == process_says(lambda: application.get_env("library", "level"))
        assert 2 == application.fetch_env(Library, "level")

    def test_delete(self):
        """As if it had never been."""
        application.load(Library)
        application.delete_env("library", "level")

        with pytest.raises(KeyError, match="no setting 'level'"):
            application.fetch_env(Library, "level")

    def test_put_for_one_that_is_not_loaded(self):
        """By its name alone nothing can be loaded."""
        with pytest.raises(KeyError, match="not loaded"):
            application.put_env("nobody", "level", 2)

    def test_what_cannot_travel(self, unsendable):
        """Is said here."""
        with pytest.raises(CodecError, match="setting level"):
            application.put_env(Library, "level", unsendable["lock"])

    def test_a_stop_keeps_them(self):
        """They are the node's."""
        application.start(Library)
        application.put_env(Library, "level", 2)
        application.stop(Library)

        assert 2 == application.get_env(Library, "level")


def process_says(function):
    """Give what a function gives in another process."""
    me = process.self()
    process.spawn(lambda: process.send(me, ("said", function())))
    return process.receive(("said", ...), 5.0)[1]
