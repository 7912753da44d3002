"""A signal while a phantom is encoded -> an exception, never a crash."""

import subprocess
import sys

SIGNALLED = """
import os, signal, threading
from dataclasses import replace
from pyrad.phantom.cohort import plan
from pyrad.phantom.dicom import encode
from pyrad.phantom.render import render

class Stop(BaseException):  # as KeyboardInterrupt is
    pass

def stop(*_):
    raise Stop

image = next(image for image in plan(8, 5) if image.broken is None and image.frames == 1)
image = replace(image, series=replace(image.series, syntax="jpeg-2000"))
pixels = render(image, 5).pixels
encode(image, pixels, 5)  # what it imports is there
signal.signal(signal.SIGTERM, stop)
stopped = 0
for number in range(100):
    kill = threading.Timer(number % 40 * 0.0004, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        kill.start()
        for _ in range(8):  # Python swallows what is raised in a destructor: not every signal is heard
            encode(image, pixels, 5)
    except Stop:
        stopped += 1
    kill.join()
print(stopped)
"""


def test_a_signal_within_an_encoder_raises_and_does_no_more():
    command = [sys.executable, "-c", SIGNALLED]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 50
