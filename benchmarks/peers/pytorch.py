"""PyTorch, tuned by hand: the same networks and training step, in every variant that could be the fastest."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial, singledispatch

import torch
from torch import nn
from torch.nn import functional as F

from poisonjax.models import MadryCNN, ReportCNN, ResNet18, WongCNN
from poisonjax.models.cifar import MEAN, STD
from poisonjax.training import SGD

SMALLER = 512  # on a GPU, also try this batch if the work's is larger


@singledispatch
def network(model, channels: int) -> nn.Module:
    """The same layers as a network of poisonjax, with PyTorch's initialisers."""
    raise TypeError(f"no PyTorch network like {type(model).__name__}")


@network.register
def _(model: MadryCNN, channels: int) -> nn.Module:
    sizes = itertools.pairwise((channels, *model.filters))
    layers = [layer for a, b in sizes for layer in (nn.Conv2d(a, b, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2))]
    return nn.Sequential(*layers, *_head(model.hidden, model.classes))


@network.register
def _(model: WongCNN, channels: int) -> nn.Module:
    sizes = itertools.pairwise((channels, *model.filters))
    layers = [layer for a, b in sizes for layer in (nn.Conv2d(a, b, 4, 2, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, *_head(model.hidden, model.classes))


@network.register
def _(model: ReportCNN, channels: int) -> nn.Module:
    layers = nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
    *hidden, last = _head(model.width, model.classes)
    return nn.Sequential(*layers, *hidden, nn.Dropout(0.5), last)


@network.register
def _(model: ResNet18, channels: int) -> nn.Module:
    first = nn.Conv2d(channels, model.filters, 3, padding=1, bias=False)
    widths = [model.filters * 2**stage for stage in range(4) for _ in range(2)]
    blocks = [Block(a, b) for a, b in itertools.pairwise([model.filters, *widths])]
    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(model.classes)
    return nn.Sequential(Normalised(), first, nn.BatchNorm2d(model.filters), nn.ReLU(), *blocks, *tail)


def _head(hidden: int, classes: int) -> tuple[nn.Module, ...]:
    return nn.Flatten(), nn.LazyLinear(hidden), nn.ReLU(), nn.LazyLinear(classes)


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


class Block(nn.Module):
    def __init__(self, before: int, features: int):
        super().__init__()
        stride = 1 if before == features else 2
        conv = partial(nn.Conv2d, bias=False)
        self.body = nn.Sequential(
            *(conv(before, features, 3, stride, padding=1), nn.BatchNorm2d(features), nn.ReLU()),
            *(conv(features, features, 3, padding=1), nn.BatchNorm2d(features)),
        )
        around = conv(before, features, 1, stride), nn.BatchNorm2d(features)
        self.around = nn.Identity() if stride == 1 else nn.Sequential(*around)

    def forward(self, x):
        return F.relu(self.body(x) + self.around(x))


def optimizer(setting, parameters, capturable: bool) -> torch.optim.Optimizer:
    """The optimiser of a work, in PyTorch's fastest form."""
    if isinstance(setting, SGD):
        options = {"momentum": setting.momentum, "weight_decay": setting.weight_decay}
        return torch.optim.SGD(parameters, setting.learning_rate, nesterov=setting.momentum > 0, fused=True, **options)
    return torch.optim.Adam(parameters, setting.learning_rate, fused=True, capturable=capturable)


class PyTorch:
    """A variant of training: compiled or eager, CUDA graph or not, memory layout, precision."""

    def __init__(self, work, device: str, compiled: bool, graph: bool, channels_last: bool, bf16: bool):
        torch.set_float32_matmul_precision("high")  # TF32, as XLA computes on a GPU
        torch.backends.cudnn.benchmark = True
        torch._dynamo.config.recompile_limit = 1000  # shared by all variants, which would silently run eager beyond it
        self.attack, self.batch, self.device = work.objective.attack, work.settings.batch, device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.bf16 = bf16
        data = work.data()
        self.image = torch.from_numpy(data.image).permute(0, 3, 1, 2).contiguous(memory_format=self.layout).to(device)
        self.label = torch.from_numpy(data.label).long().to(device)
        self.net = network(work.model, work.shape[-1]).to(device)
        self.net(self.image[:2] / 255)  # gives the lazy layers their sizes
        self.net.to(memory_format=self.layout)
        self.optimizer = optimizer(work.settings.optimizer, self.net.parameters(), graph)
        compile_ = partial(torch.compile, dynamic=False) if compiled else lambda function: function
        self.loss, self.move = compile_(self._loss), compile_(self._move)
        self.picked = torch.arange(self.batch, device=device)
        self.order, self.at = self._shuffled(), 0
        self.step = self._captured() if graph else self._step

    about: dict  # set by `variants`

    def _loss(self, x, y):
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            logits = self.net(x)
        return F.cross_entropy(logits.float(), y)

    def _move(self, x, gradient, low, high):
        return torch.clamp(x + self.attack.step * gradient.sign(), low, high)

    def _attacked(self, x, y):
        eps = self.attack.ball.eps
        low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
        x = torch.clamp(x + torch.empty_like(x).uniform_(-eps, eps), low, high)
        for _ in range(self.attack.steps):
            x.requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(x, y), x)
            x = self.move(x.detach(), gradient, low, high)
        return x

    def _step(self):
        x = self.image.index_select(0, self.picked).contiguous(memory_format=self.layout).float() / 255
        y = self.label.index_select(0, self.picked)
        self.net.eval().requires_grad_(False)  # the attack needs the gradient of the images alone
        x = self._attacked(x, y)
        self.net.train().requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x, y).backward()
        self.optimizer.step()

    def _captured(self) -> Callable[[], None]:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._step()
        torch.cuda.current_stream().wait_stream(aside)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        return graph.replay

    def _shuffled(self):
        return torch.randperm(len(self.label), device=self.device).split(self.batch)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.at == len(self.order):
                self.order, self.at = self._shuffled(), 0
            self.picked.copy_(self.order[self.at])
            self.at += 1
            self.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def _built(work, name: str, **options) -> PyTorch:
    trainer = PyTorch(work, **options)
    trainer.about = {"version": f"torch {torch.__version__}", "variant": name}
    return trainer


def variants(work, platform: str) -> Iterator[tuple[str, Callable[[], PyTorch]]]:
    """All combinations of eager or compiled, graph, memory layout, precision and batch on the platform."""
    gpu, float32, batch = platform == "gpu", getattr(work.model, "dtype", "float32") == "float32", work.settings.batch
    names = {"compiled": "compiled", "graph": "CUDA graph", "channels_last": "channels_last", "bf16": "bf16 autocast"}
    flags = (False, True), (False, True)[: 1 + gpu], (False, True), (True, False)[not gpu : 1 + float32]
    for size in sorted({batch, min(batch, SMALLER)} if gpu else {batch}):
        for values in itertools.product(*flags):
            options = dict(zip(names, values, strict=True))
            name = ", ".join(names[option] for option, on in options.items() if on) or "eager"
            device = "cuda" if gpu else "cpu"
            yield name, partial(_built, work.with_batch(size), name, device=device, **options)
