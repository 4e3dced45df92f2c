"""The command line: `python -m otp_runtime`, also installed as `otp`.

Kept empty: the demo's servers live below this package, and each of their processes runs this file.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; give the exit code. `arguments` defaults to the program's own."""
    from otp_runtime.cli.commands import run_command

    return run_command(arguments)
