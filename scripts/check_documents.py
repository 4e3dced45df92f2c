"""The programs that the documents show, under mypy and pyright, both strict.

A program without annotations is held to all that strictness can mean for it: what says no more than "here is no
annotation", or "this might be None", is switched off. The pages in ANNOTATED are about types and held to everything.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.docs.test_markdown import SCRIPTS, Block  # noqa: E402  needs the path above

ANNOTATED = {"typed"}
PYTHON = "3.11"

MYPY_STRICT = ["--strict", "--python-version", PYTHON, "--no-error-summary", "--hide-error-context"]
MYPY_UNANNOTATED = [
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-any-generics",
    "--disable-error-code=union-attr",  # a script knows that what it just started is there
    "--disable-error-code=index",
    "--disable-error-code=import-not-found",  # a module that the program itself writes; the tests run the program
    "--disable-error-code=misc",  # a lambda with a default has a type that mypy cannot infer
    "--disable-error-code=func-returns-value",  # a comprehension of sends in a lambda
]
PYRIGHT_UNANNOTATED = (
    "reportMatchNotExhaustive",  # a request that no case fits ends the server: that is meant
    "reportAttributeAccessIssue",  # as union-attr above; mypy looks for what is misspelt
    "reportMissingImports",
    "reportMissingParameterType",
    "reportMissingTypeArgument",
    "reportOptionalMemberAccess",
    "reportOptionalSubscript",
    "reportUnknownArgumentType",
    "reportUnknownLambdaType",
    "reportUnknownMemberType",
    "reportUnknownParameterType",
    "reportUnknownVariableType",
    "reportUntypedFunctionDecorator",
    "reportUnusedVariable",  # `as sup` shows a reader what the block is given
)


def main() -> int:
    """Check every program; give how many checkers complained."""
    annotated = [block for block in SCRIPTS if block.document.stem in ANNOTATED]
    others = [block for block in SCRIPTS if block.document.stem not in ANNOTATED]
    failed = 0
    for blocks, lenient in ((annotated, False), (others, True)):
        with tempfile.TemporaryDirectory() as folder:
            for block in blocks:
                Path(folder, file_of(block)).write_text(block.body, encoding="utf-8")
            failed += not mypy(folder, blocks, lenient=lenient)
            failed += not pyright(folder, blocks, lenient=lenient)
    print(f"documents: {len(SCRIPTS)} programs, {len(annotated)} of them held to every annotation")
    return failed


def file_of(block: Block) -> str:
    """Say where a program lies; the name leads back to its page and line."""
    return f"{block.document.stem.replace('-', '_')}_{block.line}.py"


def mypy(folder: str, blocks: list[Block], *, lenient: bool) -> bool:
    """Say whether mypy is content. The checkout is searched as if it were installed: its own errors are not these."""
    settings = Path(folder, "mypy.ini")
    untyped = "".join(
        f"[mypy-{name}.*]\nignore_missing_imports = True\n" for name in ("dill", "msgpack", "multiprocess")
    )
    settings.write_text(f"[mypy]\n[mypy-otp_runtime.*]\nfollow_imports = silent\n{untyped}", encoding="utf-8")
    flags = [*MYPY_STRICT, *(MYPY_UNANNOTATED if lenient else ()), "--config-file", str(settings)]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache" / "documents")]
    files = [file_of(block) for block in blocks]
    return succeeded("mypy", [*flags, *cache, *files], folder, {"MYPYPATH": str(ROOT)})


def pyright(folder: str, blocks: list[Block], *, lenient: bool) -> bool:
    """Say whether pyright is content."""
    settings = {
        "typeCheckingMode": "strict",
        "pythonVersion": PYTHON,
        "extraPaths": [str(ROOT)],
        "venvPath": str(ROOT),
        "venv": ".venv",
        "include": [file_of(block) for block in blocks],
        **(dict.fromkeys(PYRIGHT_UNANNOTATED, False) if lenient else {}),
    }
    Path(folder, "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    return succeeded("pyright", [], folder, {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})


def succeeded(tool: str, args: list[str], folder: str, environment: dict[str, str]) -> bool:
    """Run a checker where the programs lie; show what it says only when it complains."""
    command = [str(Path(sys.executable).parent / tool), *args]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        print(f"documents: {tool}\n{done.stdout}{done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
