"""What the documents show is true: their programs run, print what stands below them, and their links lead somewhere.

A block ```` ```python ```` is a whole script. A block ```` ```text ```` right after it is what that script prints to
standard output. ```` ```python no-run ```` marks a fragment, which only has to be Python.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$\n?", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<text>.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it stands, what its fence says, what is in it, what it must print (None: anything)."""

    document: Path
    line: int
    info: str
    body: str
    prints: str | None

    @property
    def id(self) -> str:
        return f"{self.document.stem}:{self.line}"


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    made = []
    for number, fence in enumerate(found):
        after = found[number + 1] if number + 1 < len(found) else None
        is_output = after is not None and after["info"] == "text" and not text[fence.end() : after.start()].strip()
        made.append(
            Block(
                document,
                text.count("\n", 0, fence.start()) + 1,
                fence["info"].strip(),
                textwrap.dedent(fence["body"]),
                textwrap.dedent(after["body"]) if is_output else None,
            )
        )
    return made


SCRIPTS = [block for document in GUIDE for block in blocks(document) if block.info == "python"]
FRAGMENTS = [block for document in DOCUMENTS for block in blocks(document) if block.info == "python no-run"]


def environment(runtime: Path) -> dict[str, str]:
    """Give an environment in which this checkout is importable and no other node is to be seen."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTP_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OTP_RUNTIME_DIR": str(runtime)}


@pytest.mark.slow
@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.id)
def test_script_runs(block, tmp_path):
    """A reader who saves the block into a file and runs it sees what the document says."""
    script = tmp_path / "shown.py"
    script.write_text(block.body, encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, str(script)],
        env=environment(tmp_path / "runtime"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    if block.prints is not None:
        assert block.prints == ended.stdout


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.id)
def test_fragment_is_python(block):
    """What is not run can at least be parsed."""
    ast.parse(block.body)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    def test_links_lead_somewhere(self, document):
        """A relative link names a file that is there, and a heading in it."""
        broken = [target for target in local_links(document) if not leads_somewhere(document, target)]

        assert [] == broken

    def test_fences_say_what_they_hold(self, document):
        """A block of unknown kind would be neither run nor checked."""
        allowed = {"python", "python no-run", "text", "console", "markdown", "sh"}

        assert set() == {block.info for block in blocks(document)} - allowed


def test_the_first_page_prints_one():
    """The README opens with the counter, and it counts."""
    first = next(block for block in SCRIPTS if block.document.name == "README.md")

    assert "class Counter(GenServer):" in first.body
    assert first.prints == "1\n"


def test_each_decision_is_in_the_index():
    """Once, with its number and title."""
    folder = ROOT / "docs" / "decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    lines = [f"- [{path.read_text().partition(chr(10))[0].removeprefix('# ')}]({path.name})" for path in records]

    assert lines == [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("- [0")]


def local_links(document: Path) -> list[str]:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    return [link["target"] for link in LINK.finditer(text) if "://" not in link["target"]]


def leads_somewhere(document: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    there = (document.parent / path).resolve() if path else document
    if not there.exists():
        return False
    return not anchor or anchor in anchors(there)


def anchors(document: Path) -> set[str]:
    """Give the names under which a document's headings can be linked to, as GitHub makes them."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", head["text"].lower()).replace(" ", "-") for head in HEADING.finditer(text)}
