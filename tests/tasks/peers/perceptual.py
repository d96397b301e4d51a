"""The losses of both papers and of the authors' code, written in torch from their formulas; records `perceptual.json`.

    python -m tests.tasks.peers.perceptual

in an environment with torch. VGG-16 of a quarter of the width with the weights of `tests/weights/pattern.py` under
torchvision's names, and pictures of the same pattern.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tests.weights import pattern

CHANNELS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512)
# After their ReLU, by torchvision's index of the convolution.
PLACES = {"relu1_2": 2, "relu2_2": 7, "relu3_3": 14, "relu4_3": 21}
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CONTENT, STYLE = "relu2_2", tuple(PLACES)
WEIGHTS = {
    "paper": {"content": 1.0, "style": 3.0, "tv": 1e-4},
    "released": {"content": 1.0, "style": 300.0, "tv": 1e-4},
    "gatys": {"content": 1.0, "style": 3.0, "tv": 1e-4},
}
STEP = 97


def width(channels: int) -> int:
    return channels // 4


def kernels() -> dict[str, np.ndarray]:
    """The convolutions as torchvision's state_dict has them."""
    found, before, index = {}, 3, 0
    for channels in CHANNELS:
        if channels == "M":
            index += 1
            continue
        name, shape = f"features.{index}", (width(channels), before, 3, 3)
        found[f"{name}.weight"] = pattern.torch_tensor(f"{name}.weight", shape)
        found[f"{name}.bias"] = pattern.torch_tensor(f"{name}.bias", shape[:1])
        before, index = shape[0], index + 2
    return found


def pixels(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """0..255, with neighbours that resemble each other."""
    coarse = pattern.uniform(name, (shape[0], shape[1] // 4, shape[2] // 4, 3))
    fine = pattern.uniform(f"{name} fine", shape)
    return (127.5 + 90 * coarse.repeat(4, 1).repeat(4, 2) + 30 * fine).astype(np.float32)


def pictures() -> dict[str, np.ndarray]:
    return {
        "made": pixels("made", (2, 48, 64, 3)),
        "photo": pixels("photo", (2, 48, 64, 3)),
        "style": pixels("style", (1, 48, 64, 3)),
    }


def record() -> dict:
    import torch
    import torch.nn.functional as F

    weights = {name: torch.from_numpy(array).double() for name, array in kernels().items()}
    shown = {name: torch.from_numpy(p.transpose(0, 3, 1, 2).copy()).double() for name, p in pictures().items()}

    def features(x):
        x = (x - torch.tensor(MEAN).double().view(1, 3, 1, 1)) / torch.tensor(STD).double().view(1, 3, 1, 1)
        found, index = {}, 0
        for channels in CHANNELS:
            if channels == "M":
                x, index = F.max_pool2d(x, 2), index + 1
                continue
            x = F.relu(F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1))
            for name, place in PLACES.items():
                if place == index:
                    found[name] = x
            index += 2
        return found

    def flat(x):
        return x.reshape(x.shape[0], x.shape[1], -1)

    def losses(made, kind):
        """(content, style, total variation), each summed over the pictures' own."""
        found, photo, style = features(made), features(shown["photo"]), features(shown["style"])
        f, p = found[CONTENT], photo[CONTENT]
        count = len(made)
        if kind == "paper":
            content = [(f[i] - p[i]).norm() ** 2 / f[i].numel() for i in range(count)]
            styles = []
            for i in range(count):
                total = 0
                for name in STYLE:
                    a, b = flat(found[name])[i], flat(style[name])[0]
                    ga = torch.einsum("cp,dp->cd", a, a) / a.numel()
                    gb = torch.einsum("cp,dp->cd", b, b) / b.numel()
                    total = total + torch.linalg.matrix_norm(ga - gb) ** 2
                styles.append(total)
            tv = [((m[:, 1:] - m[:, :-1]) ** 2).sum() + ((m[:, :, 1:] - m[:, :, :-1]) ** 2).sum() for m in made]
        elif kind == "released":
            content = [F.mse_loss(f[i], p[i]) for i in range(count)]
            styles = []
            for i in range(count):
                total = 0
                for name in STYLE:
                    a, b = flat(found[name])[i], flat(style[name])[0]
                    total = total + F.mse_loss(a @ a.T / a.numel(), b @ b.T / b.numel())
                styles.append(total)
            tv = [
                0.5 * ((m[:, 1:, :-1] - m[:, :-1, :-1]) ** 2 + (m[:, :-1, 1:] - m[:, :-1, :-1]) ** 2).sum()
                for m in made
            ]
        else:
            content = [0.5 * ((f[i] - p[i]) ** 2).sum() for i in range(count)]
            styles = []
            for i in range(count):
                total = 0
                for name in STYLE:
                    a, b = flat(found[name])[i], flat(style[name])[0]
                    total = total + ((a @ a.T - b @ b.T) ** 2).sum() / (4 * a.shape[0] ** 2 * a.shape[1] ** 2)
                styles.append(total)
            tv = [((m[:, 1:] - m[:, :-1]) ** 2).sum() + ((m[:, :, 1:] - m[:, :, :-1]) ** 2).sum() for m in made]
        return torch.stack(content), torch.stack(styles), torch.stack(tv)

    recorded = {"torch": torch.__version__}
    for kind, by in WEIGHTS.items():
        made = shown["made"].clone().requires_grad_()
        content, style, tv = losses(made, kind)
        (by["content"] * content + by["style"] * style + by["tv"] * tv).sum().backward()
        gradient = made.grad.permute(0, 2, 3, 1).reshape(-1)
        recorded[kind] = {
            "content": content.tolist(), "style": style.tolist(), "tv": tv.tolist(),
            "gradient_norm": gradient.norm().item(), "gradient": gradient[::STEP].tolist(),
        }  # fmt: skip
    return recorded


if __name__ == "__main__":
    text = json.dumps(record(), indent=1)
    if "--print" in sys.argv:
        print(text)
    else:
        (Path(__file__).parent / "perceptual.json").write_text(text + "\n")
