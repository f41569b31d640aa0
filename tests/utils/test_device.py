import time
from types import SimpleNamespace

import pytest
import torch
from joblib import Parallel, delayed

from skcoft._utils.device import device_of_process, resolve_device


def take_slowly(devices):
    time.sleep(1)  # long enough for every worker to get its task
    return device_of_process(devices)


@pytest.mark.slow
def test_worker_processes_device_of_process():
    """Two workers, three fake devices, then one."""
    actual = Parallel(n_jobs=2)(delayed(take_slowly)(["cuda:0", "cuda:1", "cuda:2"]) for _ in "ab")
    assert len(set(actual)) == 2
    assert (
        Parallel(n_jobs=2)(delayed(device_of_process)(["cuda:0"]) for _ in "ab") == ["cuda:0"] * 2
    )
    assert device_of_process(["cuda:0", "cuda:1"]) == "cuda:0"  # here


@pytest.mark.parametrize(
    "process, device, wanted",
    [
        ("MainProcess", "cuda", "cuda:0"),
        ("MainProcess", None, "cuda:0"),
        ("LokyProcess-1", "cuda", "cuda:0"),
        ("LokyProcess-2", "cuda", "cuda:1"),
        ("LokyProcess-6", None, "cuda:2"),
        ("LokyProcess-2", "cuda:2", "cuda:2"),
        ("LokyProcess-2", "cpu", "cpu"),
    ],
)
def test_cuda_without_a_number_is_shared_out(process, device, wanted, monkeypatch):
    monkeypatch.setattr(
        "skcoft._utils.device.current_process", lambda: SimpleNamespace(name=process)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: None)
    assert str(resolve_device(device)) == wanted


def test_cuda_without_a_gpu_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError):
        resolve_device("cuda")
