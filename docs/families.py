"""The table of families in docs/anybody.md: the smallest model of each family of torchvision and timm, some of
Transformers from their configurations, on small images.

    python docs/families.py                                     # prints it; ten minutes of one core
    python docs/families.py timm:vision_transformer:test_vit    # these rows alone

A row says whether `architecture=` takes the model, its P, and what `analysis.layers.every=block` measures. A width that
is read rightly does not depend on the size of the images: it is measured at two, where the model can be made for two.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch

from ncexp.architectures.by_name import ForeignNetwork, timm_model, torchvision_model
from ncexp.measure.layouts import blocks_of
from ncexp.measure.probes import EVERY_BLOCK, Probe, Probes

CLASSES, EXAMPLES = 10, 3
#: Of Transformers, as its configurations make them.
TRANSFORMERS = ("Beit", "Bit", "ConvNext", "Cvt", "Dinov2", "FocalNet", "Levit", "MobileViT", "PoolFormer", "PvtV2")
TRANSFORMERS += ("RegNet", "ResNet", "Segformer", "Swinv2", "ViT")
#: Sides of images, the first that the model takes counts, and the side of the second measurement.
SIDES = {64: 128, 128: 192, 192: 288, 224: 288, 256: 320}
#: The option by which a model is made for another size, if it has one.
SIZES = ("", "img_size", "image_size")
#: Models of hundreds of millions of parameters, and by which option they are made of two blocks.
SHALLOW = {"deepseek_vit_412m": {"depth": 2}}
#: What a refusal says → its words in the table; the last says the least.
WORDS = {
    "a Conv2d": "its last layer is a convolution",
    "are not W h + b": "its logits are not W h + b of one layer",
    "expected one tensor": "several tensors",
    "on the first axis": "the first axis is not the batch",
    "whose axes are known": "axes not known",
    "that run once": "runs several times",
    "that run in": "does not run",
    "at which it stops": "takes no images of these sizes",
    "that it takes": "takes no images of these sizes",
}
HEAD = "| package | family | model | images | P | blocks | widths of blocks | verdict |\n" + "|---" * 8 + "|"


@dataclass(frozen=True)
class Row:
    """One model, as it stands in the table; images: their side, and the option of the model that says so."""

    package: str
    family: str
    model: str
    images: str
    p: str
    blocks: str
    widths: str
    verdict: str

    def __str__(self) -> str:
        return f"| {' | '.join(cell or '–' for cell in vars(self).values())} |"

    @classmethod
    def of(cls, line: str) -> Row:
        """The row that this line of the table shows."""
        return cls(*(cell.strip().removesuffix("–") for cell in line.strip().strip("|").split("|")))


def row_of(package: str, family: str, model: str, twice: bool = True) -> Row:
    """What becomes of this model, whose own code may raise anything. twice: measure at a second size too."""
    reasons = set()
    for side in SIDES:
        for size in SIZES:
            try:
                network = make(package, model, side, size)
            except Exception as error:
                reasons.add(_words(str(error)))
                continue
            blocks = _measured(package, model, side, size, network, twice)
            return Row(package, family, model, f"{side} {size}".strip(), str(network.classifier.in_features), *blocks)
    reason = next((words for words in WORDS.values() if words in reasons), "an option")
    return Row(package, family, model, "", "", "", "", f"refused: {reason}")


def make(package: str, model: str, side: int, size: str) -> ForeignNetwork:
    """The network for images of this side. size: the option that says so, or ""."""
    torch.manual_seed(0)
    options, shape = SHALLOW.get(model, {}) | ({size: side} if size else {}), (3, side, side)
    if package == "transformers":
        made = from_configuration(model, options)
        return ForeignNetwork(made, model, shape, CLASSES).eval()
    maker = torchvision_model if package == "torchvision" else timm_model
    return maker(shape, CLASSES, model=model, **options).eval()


def from_configuration(model: str, options: dict[str, int]) -> torch.nn.Module:
    """Transformers' classifier of images of this name."""
    import transformers

    configuration = getattr(transformers, f"{model}Config")(num_labels=CLASSES, **options)
    made: torch.nn.Module = getattr(transformers, f"{model}ForImageClassification")(configuration)
    return made


def widths_of(network: ForeignNetwork, side: int) -> dict[str, int | str]:
    """Each block → the width of its features, or in a few words why there are none."""
    images, found = torch.randn(EXAMPLES, 3, side, side), dict[str, int | str]()
    blocks = blocks_of(network)
    for asked in [[EVERY_BLOCK], blocks] if blocks else []:  # one by one only where one is refused
        for name in asked:
            probes = Probes(network, {name: Probe(name, "average")}, CLASSES)
            try:
                with probes.watching(), torch.no_grad():
                    network(images)
                    found |= zip(probes.probed[name], probes.check(EXAMPLES), strict=True)
            except ValueError as error:
                found[name] = _words(str(error))
        if EVERY_BLOCK not in found:
            break
        del found[EVERY_BLOCK]
    return found


def families() -> Iterator[tuple[str, str, str]]:
    """Package, family and name of the model with the fewest parameters of each module of torchvision and timm."""
    import timm
    from torchvision import models

    sizes = []
    for name in models.list_models(module=models):
        size = models.get_model_weights(name).DEFAULT.meta["num_params"]
        sizes.append(("torchvision", models.get_model_builder(name).__module__, size, name))
    for name in timm.list_models():
        with torch.device("meta"):  # no memory
            parameters = timm.create_model(name).parameters()
        sizes.append(("timm", timm.model_entrypoint(name).__module__, sum(one.numel() for one in parameters), name))
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for package, module, size, name in sizes:
        smallest[package, module] = min(smallest.get((package, module), (size, name)), (size, name))
    for (package, family), (_, name) in sorted(smallest.items()):
        yield package, family.rpartition(".")[2], name
    yield from (("transformers", name.lower(), name) for name in TRANSFORMERS)


def _measured(
    package: str, model: str, side: int, size: str, network: ForeignNetwork, twice: bool
) -> tuple[str, str, str]:
    """How many blocks, the widths of their features, and the verdict."""
    found = widths_of(network, side)
    if twice:
        with suppress(ValueError):  # one that takes no other size
            second = widths_of(make(package, model, SIDES[side], size), SIDES[side])
            if any(second[name] != width for name, width in found.items() if isinstance(width, int)):
                raise SystemExit(f"{model}: expected widths that do not depend on the images, got {found} and {second}")
    if not found:
        return "", "", "no list of blocks"
    widths = [width for width in found.values() if isinstance(width, int)]
    others = sorted({width for width in found.values() if isinstance(width, str)})
    verdict = f"{len(widths)} of {len(found)}; others: {', '.join(others)}" if others else "every block"
    return str(len(found)), ", ".join(map(str, sorted({*widths}))), verdict


def _words(message: str) -> str:
    return next((words for part, words in WORDS.items() if part in message), "")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(HEAD)
    asked = [one.split(":") for one in sys.argv[1:]] or families()
    for package, family, model in asked:
        print(row_of(package, family, model), flush=True)
