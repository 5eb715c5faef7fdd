"""The stock idiom, which delivers other pixels: RandomResizedCrop in workers, then v2.CutMix over each batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pictures import MEAN, STD, Jpegs, Plan, decode, resized_crop
from protocol import Batch, Task, serve, workers
from torch.utils.data import DataLoader, Dataset
from vision import v2


class Images(Dataset):
    """Item i is image i, cropped and flipped at random: uint8 [3, S, S], and its label."""

    def __init__(self, side: int, jpegs: Jpegs) -> None:
        self.jpegs = jpegs
        self.side, self.crop, self.flip = side, v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip()

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, int]:
        """Decode and transform one image."""
        image = decode(self.jpegs[sample])
        chosen = self.crop.make_params([torch.from_numpy(image).permute(2, 0, 1)])
        rows = slice(chosen["top"], chosen["top"] + chosen["height"])
        columns = slice(chosen["left"], chosen["left"] + chosen["width"])
        drawn = resized_crop(image, rows, columns, [self.side, self.side])  # 3 % more canvases than by calling `crop`
        return self.flip(drawn), int(self.jpegs.labels[sample])


def batches(task: Task) -> Iterator[Batch]:
    """As many canvases a batch as in the plan, each of one image that carries a piece of its neighbour's."""
    plan, jpegs = Plan(task.plan), Jpegs(task.jpegs)
    loader = DataLoader(
        Images(plan.side, jpegs),
        batch_sampler=([n % len(jpegs.labels) for n in canvases] for canvases in plan.laps()),
        num_workers=workers(task),
    )
    mix = v2.CutMix(num_classes=int(jpegs.labels.max()) + 1)
    finish = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD, inplace=True)])
    for images, labels in loader:
        mixed, soft = mix(images, labels)
        yield finish(mixed), soft, None


if __name__ == "__main__":
    serve(batches)
