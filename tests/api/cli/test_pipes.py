"""Output into a pipe whose reader leaves early: no traceback, exit code 0."""

import subprocess
import sys

import pytest

WRITE = {
    "json": "printing.write_json([{'a': n} for n in range(200_000)])",
    "table": "printing.console().print(printing.table(['a'], [[str(n)] for n in range(20_000)]))",
    "text": "print('x' * 5_000_000, end='')",
}


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("form", WRITE)
def test_a_reader_may_leave(form: str, reader: str) -> None:
    script = (
        "import sys, typer\nfrom api.cli import main\nfrom api.cli.output import printing\n"
        f"app = typer.Typer()\n@app.command()\ndef write(): {WRITE[form]}\nmain.app = app\nsys.exit(main.main([]))"
    )
    command = f'"$1" -c "$2" | {reader}; exit "${{PIPESTATUS[0]}}"'
    result = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""
    assert result.returncode == 0
