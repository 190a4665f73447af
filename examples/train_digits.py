#!/usr/bin/env python3
"""Trains a classifier of handwritten digits with numpy alone; loss and gradient come from lossd.

    LOSSD_ADDRESS=unix:/run/lossd/lossd.sock python examples/train_digits.py

64 pixels, a hidden layer of 32, ten classes; stochastic gradient descent with momentum, in float64. Weights and the
order of the images come from a small generator that train_digits.c and train_digits_torch.py have too, so that all
three end with the same loss and accuracy: TORCH below is what the last one printed.
"""

import numpy as np

import lossd
from digits import BATCH, EPOCHS, MOMENTUM, RATE, TRAINED, Generator, begin, load

#: Loss of the held-out images and how many of them are classified rightly, by torch 2.13.
TORCH = {"loss": 0.116698629, "right": 520}


def forward(weights, images):
    hidden = np.maximum(images @ weights[0] + weights[1], 0)
    return hidden, hidden @ weights[2] + weights[3]


def train(client, images, classes):
    generator = Generator(1)
    weights = begin(generator)
    speeds = [np.zeros_like(weight) for weight in weights]
    for _ in range(EPOCHS):
        order = generator.permutation(TRAINED)
        for first in range(0, TRAINED, BATCH):
            rows = order[first:first + BATCH]
            hidden, logits = forward(weights, images[rows])
            # What torch's autograd would do below loss.backward() begins here.
            _, upstream = client.cross_entropy(logits, classes[rows], with_grad=True)
            inner = (upstream @ weights[2].T) * (hidden > 0)
            gradients = [images[rows].T @ inner, inner.sum(0), hidden.T @ upstream, upstream.sum(0)]
            for weight, speed, gradient in zip(weights, speeds, gradients):
                speed *= MOMENTUM
                speed += gradient
                weight -= RATE * speed
    return weights


def main():
    images, classes = load()
    with lossd.connect() as client:
        weights = train(client, images, classes)
        _, logits = forward(weights, images[TRAINED:])
        loss = client.cross_entropy(logits, classes[TRAINED:])
    right = int((logits.argmax(1) == classes[TRAINED:]).sum())
    print(f"loss {loss:.9f}, {right} of {len(logits)} right")
    print(f"torch {TORCH['loss']:.9f}, {TORCH['right']} of {len(logits)} right")


if __name__ == "__main__":
    main()
