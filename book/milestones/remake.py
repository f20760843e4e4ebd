"""Run the milestones and keep, for their pages in the book, what they print and draw.

    python book/milestones/remake.py          all six, a few minutes
    python book/milestones/remake.py 01 02    only these

NN_name.txt is what was printed, NN_name.png the picture in 128 colours, NN_name_small.png a part of it for the first
page.
"""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The part of each picture for the first page: left, top, right, bottom as shares of its width and height.
PARTS = {
    "01_1957_perceptron": (0.078, 0.053, 0.435, 0.838),
    "02_1969_xor": (0.3705, 0.093, 0.6605, 0.845),
    "03_1986_mlp": (0.0, 0.05, 0.275, 0.725),
    "04_1998_cnn": (0.278, 0.022, 0.633, 0.447),
    "05_2017_transformer": (0.0888, 0.069, 0.2967, 0.431),
    "06_2018_mlperf": (0.108, 0.47, 0.43, 0.926),
}
SMALL = 224  # pixels of the smaller picture, a square


def remake(name, part):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, f"milestones/{name}.py", "--out", "outputs"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    (HERE / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
    print(name, done.stdout.splitlines()[-1], sep="  ")
    picture = Image.open(ROOT / "outputs" / f"{name}.png").convert("RGB")
    save(picture, HERE / f"{name}.png", 128)
    wide, high = picture.size
    piece = picture.crop((part[0] * wide, part[1] * high, part[2] * wide, part[3] * high))
    piece = ImageOps.pad(piece, (SMALL, SMALL), Image.Resampling.LANCZOS, color="white")
    save(piece, HERE / f"{name}_small.png", 128)


def save(picture, path, colours):
    picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"  {path.name}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    for name, part in PARTS.items():
        if sys.argv[1:] == [] or name[:2] in sys.argv[1:]:
            remake(name, part)
