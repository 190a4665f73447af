"""The polynomials of Sources/LossdKernels/Core/Math: minimax in the relative error, by Remez's
exchange (1934).

    pip install mpmath && python scripts/polynomials.py

Prints each one's coefficients, of the highest power first, as float32 and float64, and its largest error
before they are rounded.
"""
import struct

import mpmath as mp

mp.mp.prec = 200
GRID = 4000
TINY = mp.mpf("1e-12")


def remez(f, weight, low, high, degree):
    """The polynomial of this degree with the least max |weight (f - polynomial)| over [low, high]."""
    count = degree + 2
    middle, radius = (low + high) / 2, (high - low) / 2
    points = [middle - radius * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    grid = [middle - radius * mp.cos(mp.pi * i / GRID) for i in range(GRID + 1)]
    # At 0 the quotients below are 0 / 0.
    points = [x if abs(x) > TINY else TINY for x in points]
    grid = [x if abs(x) > TINY else TINY for x in grid]
    for _ in range(40):
        system = mp.matrix(count, count)
        values = mp.matrix(count, 1)
        for i, x in enumerate(points):
            for power in range(degree + 1):
                system[i, power] = x**power
            system[i, degree + 1] = (-1)**i / weight(x)
            values[i] = f(x)
        solution = mp.lu_solve(system, values)
        coefficients = [solution[power] for power in range(degree + 1)][::-1]
        errors = [weight(x) * (f(x) - mp.polyval(coefficients, x)) for x in grid]
        # The largest error between each two changes of sign is the next point.
        edges = [0] + [i for i in range(1, len(grid)) if errors[i] * errors[i - 1] < 0] + [len(grid)]
        peaks = [max(range(a, b), key=lambda i: abs(errors[i])) for a, b in zip(edges, edges[1:])]
        while len(peaks) > count:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        worst = max(abs(e) for e in errors)
        if len(peaks) < count or worst < abs(solution[degree + 1]) * (1 + mp.mpf("1e-6")):
            break
        points = [grid[i] for i in peaks]
    return coefficients, worst


def single(x):
    """The next float32."""
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def singles(f, weight, low, high, degree):
    """The same with coefficients of float32: from the constant on, each is rounded before those of the higher powers are
    fitted, which make good what its rounding does."""
    lower = []
    for left in range(degree, -1, -1):
        if lower:
            below, over, constant = f, weight, lower[-1]
            f = lambda x, f=below, c=constant: (f(x) - c) / x  # noqa: E731
            weight = lambda x, w=over: w(x) * x  # noqa: E731
        coefficients, worst = remez(f, weight, low, high, left)
        lower.append(single(coefficients[-1]))
    return lower[::-1], worst


def show(name, coefficients, worst):
    print(f"{name}: 2^{float(mp.log(worst, 2)):.1f}")
    for c in coefficients:
        print(f"  {single(c).hex():>24} {single(c):>18.9g} {float(c)!r}")


def main():
    half = mp.log(2) / 2
    # exp(r) = 1 + r + r^2 (1/2 + r q(r)).
    for degree in (3, 8):
        show(f"exp, degree {degree}", *remez(
            lambda r: (mp.exp(r) - 1 - r - r**2 / 2) / r**3,
            lambda r: abs(r)**3 / mp.exp(r), -half, half, degree))
    # log(1 + x) = x + x^2 q(x).
    for name, low, high, degree in (
            ("log1p over [0, 1]", mp.mpf(0), mp.mpf(1), 9),
            ("log over [sqrt(1/2), sqrt(2))", mp.sqrt(mp.mpf(1) / 2) - 1, mp.sqrt(2) - 1, 8)):
        show(name, *remez(
            lambda x: (mp.log1p(x) - x) / x**2, lambda x: x**2 / abs(mp.log1p(x)), low, high, degree))
    # The normal distribution's tail beyond x, times exp(x^2 / 2), is p(x / (x + 2)) / (x + 2) in float32, and
    # p((x - 3) / (x + 3)) / (x + 3) in float64.
    def mills(x):
        return mp.erfc(x / mp.sqrt(2)) * mp.exp(x * x / 2) / 2

    def near(v):
        return mills(2 * v / (1 - v)) * (2 * v / (1 - v) + 2)

    def far(q):
        return mills(3 * (1 + q) / (1 - q)) * (3 * (1 + q) / (1 - q) + 3)

    show("tail, float32", *singles(near, lambda v: 1 / near(v), mp.mpf(0), mp.mpf(15) / 17, 11))
    show("tail, float64", *remez(far, lambda q: 1 / far(q), mp.mpf(-1), mp.mpf(37) / 43, 26))
    # log(1 - erf(x)) where 1 - erf(x) is small beside 1.
    for name, top, degree in (("tail of erf, float32", 4, 6), ("tail of erf, float64", 6, 17)):
        show(name, *remez(lambda x: mp.log(mp.erfc(x)), mp.erfc, mp.mpf(1), mp.mpf(top), degree))


if __name__ == "__main__":
    main()
