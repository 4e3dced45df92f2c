"""The name table's rules and spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp_runtime.core.names import (
    MAX_NAME_BYTES,
    ComingBack,
    Held,
    check_name,
    file_name_of,
    format_owner,
    is_name,
    name_of,
    parse_owner,
)


class TestCheckName:
    @pytest.mark.parametrize("name", ["a", "Ünïcode", "a/b", "..", " ", "x" * MAX_NAME_BYTES])
    def test_good_name_comes_back(self, name):
        """Almost every text is a name."""
        assert name == check_name(name)
        assert is_name(name)

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "empty"),
            ("a\0b", "NUL"),
            ("x" * (MAX_NAME_BYTES + 1), "201 bytes"),
            ("ü" * 101, "202 bytes"),
            ("\udc80", "UTF-8"),
            ("/" * 100, "too many"),
        ],
    )
    def test_bad_name_is_refused_with_the_reason(self, name, why):
        """The text says what is wrong."""
        assert not is_name(name)
        with pytest.raises(ValueError, match=why):
            check_name(name)

    @pytest.mark.parametrize("name", [None, 1, b"a", ("a",)])
    def test_other_types_are_refused(self, name):
        """A local name is a str."""
        assert not is_name(name)
        with pytest.raises(TypeError):
            check_name(name)


class TestFileNameOf:
    @pytest.mark.parametrize(
        ("name", "file_name"),
        [
            ("counter", "counter"),
            ("a/b", "a%2Fb"),
            ("50%", "50%25"),
            (".", "%2E"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("v1.2", "v1.2"),
            ("a\nb", "a%0Ab"),
        ],
    )
    def test_spelling(self, name, file_name):
        """What a directory cannot hold or would hide is escaped."""
        assert file_name == file_name_of(name)

    @given(st.text(min_size=1, max_size=60).filter(is_name))
    def test_every_name_is_a_file_and_comes_back(self, name):
        """No two names share a file, and every file name is one the kernel takes."""
        file_name = file_name_of(name)

        assert name == name_of(file_name)
        assert "/" not in file_name
        assert not file_name.startswith(".")
        assert len(file_name.encode()) <= 255


class TestNameOf:
    @pytest.mark.parametrize("file_name", ["", ".", "..", ".lock", "%41", "%2f", "100%", "%00"])
    def test_other_files_stand_for_no_name(self, file_name):
        """Only what `file_name_of` writes is read."""
        assert None is name_of(file_name)


class TestOwner:
    @pytest.mark.parametrize(
        ("owner", "target"), [(Held(12), "12"), (ComingBack(7), "restarting:7"), (ComingBack(7, 12), "restarting:7:12")]
    )
    def test_it_is_written_and_read(self, owner, target):
        """A process by its id, or the supervisor that is bringing it back."""
        assert target == format_owner(owner)
        assert owner == parse_owner(target)

    @pytest.mark.parametrize("target", ["", "x", "-1", "restarting:", "restarting:x", "\u0661", "1\n"])
    def test_garbage_is_no_owner(self, target):
        """Somebody else's link is ignored."""
        assert None is parse_owner(target)
