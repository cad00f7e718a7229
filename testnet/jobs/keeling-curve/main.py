"""Trend, growth and seasonal cycle of atmospheric CO2 at Mauna Loa.

Reads data/co2-concentration.csv (month, ppm, seasonally adjusted ppm), fits a quadratic trend by least squares, and
writes growth.csv (yearly mean and growth), season.csv (mean departure from the trend by month) and keeling.svg.
Standard library only.
"""

import csv
from fractions import Fraction
from statistics import fmean

MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["CO2"]:
                year, month, _ = row["Date"].split("-")
                yield int(year), int(month), float(row["CO2"])


def solve(matrix, right):
    """Gaussian elimination in exact arithmetic."""
    rows = [list(line) + [value] for line, value in zip(matrix, right)]
    size = len(rows)
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(size):
            if k != i:
                factor = rows[k][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i])]
    return [line[-1] for line in rows]


def quadratic(points):
    """Least-squares parabola through (time, value); exact, so the same on every machine."""
    exact = [(Fraction(t).limit_denominator(10**6), Fraction(v).limit_denominator(10**6)) for t, v in points]
    sums = [sum(t**k for t, _ in exact) for k in range(5)]
    right = [sum(v * t**k for t, v in exact) for k in range(3)]
    return [float(c) for c in solve([[sums[i + k] for k in range(3)] for i in range(3)], right)]


def plot(points, trend, path):
    width, height, margin = 960, 480, 60
    xs, ys = [t for t, _ in points], [v for _, v in points]
    left, right, low, high = min(xs), max(xs), min(ys) - 5, max(ys) + 5

    def at(t, v):
        x = margin + (t - left) / (right - left) * (width - 2 * margin)
        y = height - margin - (v - low) / (high - low) * (height - 2 * margin)
        return f"{x:.1f},{y:.1f}"

    def line(series, colour, stroke):
        path_data = " ".join(at(t, v) for t, v in series)
        return f'<polyline fill="none" stroke="{colour}" stroke-width="{stroke}" points="{path_data}"/>'

    ticks = []
    for year in range(1960, 2021, 10):
        x, y = at(year, low).split(",")
        ticks.append(f'<text x="{x}" y="{float(y) + 20:.1f}" text-anchor="middle">{year}</text>')
    for ppm in range(320, 421, 20):
        x, y = at(left, ppm).split(",")
        ticks.append(f'<text x="{float(x) - 8:.1f}" y="{y}" text-anchor="end">{ppm}</text>')
        ticks.append(f'<line x1="{x}" x2="{width - margin}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="{width / 2}" y="30" text-anchor="middle" font-size="18">'
            f"CO₂ at Mauna Loa, parts per million</text>\n"
            + "\n".join(ticks)
            + "\n"
            + line(points, "#1f77b4", 1)
            + "\n"
            + line([(t, trend(t)) for t, _ in points], "#d62728", 2)
            + "\n</svg>\n"
        )


def main():
    records = list(read("data/co2-concentration.csv"))
    points = [(year + (month - 0.5) / 12, ppm) for year, month, ppm in records]
    origin = 1990
    a, b, c = quadratic([(t - origin, ppm) for t, ppm in points])

    def trend(t):
        return a + b * (t - origin) + c * (t - origin) ** 2

    by_year = {}
    for year, month, ppm in records:
        by_year.setdefault(year, []).append(ppm)
    means = {year: fmean(values) for year, values in sorted(by_year.items()) if len(values) == 12}
    with open("growth.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["year", "mean_ppm", "growth_ppm"])
        for year, mean in means.items():
            growth = f"{mean - means[year - 1]:.2f}" if year - 1 in means else ""
            table.writerow([year, f"{mean:.2f}", growth])

    departures = {month: [] for month in range(1, 13)}
    for (year, month, ppm), (t, _) in zip(records, points):
        departures[month].append(ppm - trend(t))
    season = {month: fmean(values) for month, values in departures.items()}
    with open("season.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["month", "departure_ppm"])
        for month, value in season.items():
            table.writerow([MONTHS[month - 1], f"{value:+.2f}"])

    plot(points, trend, "keeling.svg")
    peak, low = max(season, key=season.get), min(season, key=season.get)
    print(f"{len(records)} months, {records[0][0]} to {records[-1][0]}")
    print(f"trend in {origin}: {a:.1f} ppm, growing {b:.2f} ppm a year, faster by {2 * c * 10:.2f} each decade")
    print(f"season: highest in {MONTHS[peak - 1]} ({season[peak]:+.1f}), lowest in {MONTHS[low - 1]} ({season[low]:+.1f})")


if __name__ == "__main__":
    main()
