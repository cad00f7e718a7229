"""Draws a Mandelbrot set in several processes, blurs it, finds its edges, and writes PNG, PPM and a histogram."""

import json
import math
import multiprocessing
import sys
from collections import Counter

from png import read_ppm, write_png, write_ppm

WIDTH, HEIGHT, DEPTH = 180, 120, 60


def line(y):
    row = []
    for x in range(WIDTH):
        c = complex(-2.2 + 3.2 * x / WIDTH, -1.1 + 2.2 * y / HEIGHT)
        z, steps = 0j, 0
        while abs(z) < 2 and steps < DEPTH:
            z, steps = z * z + c, steps + 1
        shade = steps + 1 - math.log2(max(1e-9, math.log(max(abs(z), 1.000001)))) if steps < DEPTH else 0
        row += [int(127 + 127 * math.sin(shade / 5 + phase)) if shade else 0 for phase in (0, 2, 4)]
    return row


def convolve(rows, kernel):
    width, height = len(rows[0]) // 3, len(rows)
    out = []
    for y in range(height):
        row = []
        for x in range(width):
            for channel in range(3):
                total = 0.0
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        py, px = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                        total += kernel[dy + 1][dx + 1] * rows[py][3 * px + channel]
                row.append(min(255, max(0, int(abs(total)))))
        out.append(row)
    return out


if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        rows = pool.map(line, range(HEIGHT), chunksize=8)
    write_ppm("set.ppm", WIDTH, HEIGHT, rows)
    assert read_ppm("set.ppm") == (WIDTH, HEIGHT, rows)
    write_png("set.png", WIDTH, HEIGHT, rows)
    soft = convolve(rows, [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]])
    write_png("edges.png", WIDTH, HEIGHT, convolve(soft, [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]))
    histogram = Counter(value // 16 for row in rows for value in row)
    with open("histogram.json", "w", encoding="utf-8") as file:
        json.dump([histogram[bucket] for bucket in range(16)], file)
    print(f"{WIDTH}x{HEIGHT} points, {len(histogram)} shades", file=sys.stdout)
