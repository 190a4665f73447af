#!/usr/bin/env python3
"""train_digits.py with torch doing all of it: what its TORCH was printed by.

    pip install "torch==2.13.0+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
    python examples/train_digits_torch.py
"""

import torch

from digits import BATCH, EPOCHS, MOMENTUM, RATE, TRAINED, Generator, begin, load


def train(images, classes, loss=torch.nn.functional.cross_entropy):
    """The model; `loss` may be another's."""
    generator = Generator(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), begin(generator)):
            parameter.copy_(torch.from_numpy(value.T))
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    for _ in range(EPOCHS):
        order = generator.permutation(TRAINED)
        for first in range(0, TRAINED, BATCH):
            rows = order[first:first + BATCH]
            optimizer.zero_grad()
            loss(model(images[rows]), classes[rows]).backward()
            optimizer.step()
    return model


def main():
    torch.set_num_threads(1)  # such small matrices are not worth more
    images, classes = map(torch.from_numpy, load())
    logits = train(images, classes)(images[TRAINED:])
    loss = torch.nn.functional.cross_entropy(logits, classes[TRAINED:])
    right = int((logits.argmax(1) == classes[TRAINED:]).sum())
    print(f"loss {loss.item():.9f}, {right} of {len(logits)} right")


if __name__ == "__main__":
    main()
