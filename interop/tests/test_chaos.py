"""A short campaign of kills, pauses, restarts and cuts: nothing is lost, and all is explained."""

import os
import re
import subprocess
import sys
from pathlib import Path

from programs import BINARIES

INTEROP = Path(__file__).parent.parent


def campaign(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        cwd=INTEROP,
        env=os.environ
        | {"PYTHONPATH": str(INTEROP / "tests"), "INTEROP_BINARIES": str(BINARIES.resolve())},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    # pytest shows it where the test fails, and with -rP.
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done


def figure(done, name):
    """The number of a line of the ledger."""
    [number] = re.findall(rf"^\s*{re.escape(name)}\s+([\d,]+)$", done.stdout, re.MULTILINE)
    return int(number.replace(",", ""))


def test_no_message_is_lost_whatever_happens():
    done = campaign("--messages", "2000")

    assert done.returncode == 0, done.stdout
    assert figure(done, "sendings confirmed by Redis") == 2000
    assert figure(done, "killed") >= 5
    assert figure(done, "lost") == 0
    assert figure(done, "without a reason") == 0


def test_the_ledger_notices_what_early_acknowledgement_loses():
    done = campaign("--messages", "600", "--early-ack")

    assert done.returncode == 1
    assert figure(done, "lost") > 0
