"""A second program of the same user attaches to a running node and talks to its servers by name."""

import subprocess
import sys

from otp_runtime import Agent, Node

SECOND_PROGRAM = """
from otp_runtime import Agent, attach

attach("shop")
Agent.update("till", lambda cents: cents + 250)
print("second program:", Agent.get("till", lambda cents: cents))
"""

with Node.start("shop"):
    Agent.start_link(lambda: 100, name="till")
    subprocess.run([sys.executable, "-c", SECOND_PROGRAM], check=True)
    print("first program:", Agent.get("till", lambda cents: cents))
