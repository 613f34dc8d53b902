"""One thread for each test process: tests run beside each other, and on two cores more threads only wait for cores."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; processes that tests start inherit it

import torch

torch.set_num_threads(1)
