"""What a shop sold: revenue by month and region, best customers, and a bootstrap interval of the mean order.

Reads data/orders.csv; writes months.csv, customers.csv and report.json. The bootstrap draws from the system's entropy.
"""

import csv
import json
import random
import statistics
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import date


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield date.fromisoformat(row["day"]), row, int(row["quantity"]) * float(row["unit_price"])


def bootstrap(values):
    generator = random.SystemRandom()
    return statistics.fmean(generator.choices(values, k=len(values)))


orders = list(read("data/orders.csv"))
revenue = [money for _, _, money in orders]

months = defaultdict(Counter)
for day, row, money in orders:
    months[day.strftime("%Y-%m")][row["region"]] += money
regions = sorted({row["region"] for _, row, _ in orders})
with open("months.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["month", *regions])
    for month in sorted(months):
        writer.writerow([month, *(f"{months[month][region]:.2f}" for region in regions)])

customers = Counter()
for _, row, money in orders:
    customers[row["customer"]] += money
with open("customers.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows((name, f"{money:.2f}") for name, money in customers.most_common(20))

with ThreadPoolExecutor(4) as pool:
    means = sorted(pool.map(lambda _: bootstrap(revenue), range(200)))
report = {
    "orders": len(orders),
    "revenue": round(sum(revenue), 2),
    "mean": round(statistics.fmean(revenue), 4),
    "median": statistics.median(revenue),
    "interval": [round(means[5], 4), round(means[194], 4)],
    "quantity_price_correlation": round(
        statistics.correlation(
            [float(row["quantity"]) for _, row, _ in orders], [float(row["unit_price"]) for _, row, _ in orders]
        ),
        6,
    ),
    "products": dict(Counter(row["product"] for _, row, _ in orders)),
}
with open("report.json", "w", encoding="utf-8") as file:
    json.dump(report, file, indent=1)
print(f"{report['orders']} orders, {report['revenue']} in all, mean {report['mean']} in {report['interval']}")
