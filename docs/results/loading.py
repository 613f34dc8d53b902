"""Time and memory of loading ConvNeXt-L and XL, ours beside timm's: prints the rows of loading.md.

Each load is a process of its own; the five take turns. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 3

SAVE = """
import sys
from pathlib import Path
import torch
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.classification.export import save_as
from convnext.tasks.classification.recipe import ClassificationMetadata
folder, config = Path(sys.argv[1]), ModelConfig(sys.argv[2], num_classes=1000)
torch.manual_seed(0)
state, metadata = from_config(config).state_dict(), ClassificationMetadata(config, InputConfig())
for out, layout in (("ours.safetensors", "convnext"), ("meta.pth", "official"), ("timm", "timm")):
    save_as(folder / out, state, metadata, layout=layout)
"""

OURS = "import convnext; load = lambda name: convnext.load_model(folder + '/{}').model"
TIMM = (
    "import timm; load = lambda name: timm.create_model("
    "name, pretrained=True, pretrained_cfg_overlay={{'file': folder + '/{}'}})"
)
LOADINGS = {
    "ours, our safetensors (digest checked)": OURS.format("ours.safetensors"),
    "ours, timm's safetensors": OURS.format("timm"),
    "ours, Meta's .pth (checksums checked)": OURS.format("meta.pth"),
    "timm, its safetensors": TIMM.format("timm/model.safetensors"),
    "timm, Meta's .pth": TIMM.format("meta.pth"),
}

LOAD = """
import json, sys, time
import safetensors.torch, torch
import convnext.tasks.classification.weights  # libraries are no part of what loading takes
folder = sys.argv[1]
{}
def memory(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1024
before, begun = memory("VmRSS"), time.perf_counter()
model = load(sys.argv[2])
loaded, peak = time.perf_counter() - begun, memory("VmHWM") - before
with torch.inference_mode():
    model.eval()(torch.zeros(1, 3, 224, 224))
whole, after = time.perf_counter() - begun, memory("VmHWM") - before
size = sum(value.numel() * 4 for value in model.parameters()) / 2**20
print(json.dumps([loaded, whole, size, peak, after]))
"""


def run(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.PIPE).stdout.decode()


for name in ("convnext_large", "convnext_xlarge"):
    with tempfile.TemporaryDirectory() as folder:
        run(SAVE, folder, name)
        figures: dict[str, list[list[float]]] = {who: [] for who in LOADINGS}
        for _ in range(ROUNDS):
            for who, code in LOADINGS.items():
                figures[who].append(json.loads(run(LOAD.format(code), folder, name).splitlines()[-1]))
    for who, rows in figures.items():
        loaded, whole, size, peak, after = (statistics.median(column) for column in zip(*rows, strict=True))
        row = f"{loaded:.2f} | {whole:.2f} | {size:.0f} | {peak:.0f} | {after:.0f}"
        print(f"| {name} | {who} | {row} |", flush=True)  # noqa: T201
