"""What the build and the machine say of GPUs: an answer without one, one sentence where one is asked for."""

import pytest

from pyrad import ops
from pyrad.errors import UsageError


def test_the_report_is_an_answer_on_any_machine():
    report = ops.device_report()
    assert report.keys() == {"built", "runtime_version", "driver_version", "names"}
    assert bool(report["runtime_version"]) == report["built"]
    assert report["built"] or not report["names"]


def test_a_device_that_is_not_there_is_one_helpful_sentence():
    absent = len(ops.device_report()["names"])
    with pytest.raises(UsageError, match=r"device='cpu'|counted from 0") as caught:
        ops.require_device(absent)
    assert "\n" not in str(caught.value)


@pytest.mark.cuda
def test_a_device_that_is_there_is_accepted():
    ops.require_device(0)
